"""A data set survives being taken apart into tensors and JSON facts."""

import json
from dataclasses import dataclass, replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from erasure.data.dataset import Dataset
from erasure.data.sources.scikit_learn import Sklearn
from erasure.data.sources.synthetic import SyntheticImages, SyntheticTable
from erasure.data.storage import ColumnFormat, from_artifact, register_column, to_artifact
from erasure.errors import DataError
from erasure.training.batches import TensorColumn

STANDARDISED = Sklearn(name="iris").load()
STANDARDISED = replace(STANDARDISED, x=replace(STANDARDISED.x, mean=torch.arange(4.0), std=torch.arange(1.0, 5.0)))
MULTILABEL = Dataset(
    name="é", x=TensorColumn(torch.randn(5, 2).half()), y=torch.ones(5, 3), n_classes=3, task="multilabel", x_shape=(2,)
)


def through_a_file(data, folder):
    tensors, facts = to_artifact(data)
    save_file(tensors, folder / "data.safetensors")
    return from_artifact(load_file(folder / "data.safetensors"), json.loads(json.dumps(facts)))


@pytest.mark.parametrize(
    "data",
    [Sklearn(name="digits").load(), STANDARDISED, SyntheticTable(n_groups=3).load(), SyntheticImages().load(), MULTILABEL],
    ids=["digits", "standardised", "table", "images", "multilabel"],
)
def test_a_data_set_is_the_same_after_a_round_trip(data, tmp_path):
    again = through_a_file(data, tmp_path)
    ids = torch.arange(len(data))
    assert torch.equal(again.x.gather(ids), data.x.gather(ids))
    assert (again.x.values.dtype, again.x.scale) == (data.x.values.dtype, data.x.scale)
    assert torch.equal(again.y, data.y)
    assert again.y.dtype == data.y.dtype
    assert (again.z is None) == (data.z is None)
    assert data.z is None or torch.equal(again.z, data.z)
    for field in ("name", "n_classes", "x_shape", "task", "modality", "class_names", "feature_names", "z_names"):
        assert getattr(again, field) == getattr(data, field)


def test_what_codes_stand_for_is_kept_and_older_data_sets_have_none(tmp_path):
    data = replace(STANDARDISED, value_names={"petal": ("<b>", "é")})
    assert through_a_file(data, tmp_path).value_names == {"petal": ("<b>", "é")}
    tensors, facts = to_artifact(STANDARDISED)
    assert "value_names" not in facts
    assert from_artifact(tensors, facts).value_names == {}


def test_views_and_shared_memory_are_stored(tmp_path):
    base = torch.arange(20).reshape(10, 2)
    labels = base[:, 0].contiguous()
    data = Dataset(name="v", x=TensorColumn(base[::2].float()), y=labels[:5], z=labels[:5], n_classes=20, x_shape=(2,))
    assert through_a_file(data, tmp_path).z.tolist() == labels[:5].tolist()


def test_contiguous_columns_are_not_copied():
    data = Sklearn(name="digits").load()
    tensors, _ = to_artifact(data)
    assert tensors["x.values"].data_ptr() == data.x.values.data_ptr()


@dataclass(frozen=True, eq=False)
class Ragged:
    """A column of another kind, as another package would bring it."""

    flat: torch.Tensor
    edges: torch.Tensor

    def __len__(self):
        return len(self.edges) - 1

    def gather(self, ids):
        return [self.flat[self.edges[i] : self.edges[i + 1]] for i in ids]

    def to(self, device):
        return self


def ragged():
    return Dataset(
        name="r",
        x=Ragged(torch.arange(5), torch.tensor([0, 2, 5])),
        y=torch.tensor([0, 1]),
        n_classes=2,
        x_shape=(),
        modality="text",
    )


def test_a_column_of_another_kind_is_storable_once_it_is_registered(tmp_path):
    with pytest.raises(DataError, match="Ragged, which cannot be stored"):
        to_artifact(ragged())
    as_tensors = lambda column: ({"flat": column.flat, "edges": column.edges}, {})  # noqa: E731
    register_column("test-ragged", ColumnFormat(Ragged, as_tensors, lambda tensors, facts: Ragged(**tensors)))
    again = through_a_file(ragged(), tmp_path)
    assert [part.tolist() for part in again.x.gather([0, 1])] == [[0, 1], [2, 3, 4]]
    with pytest.raises(ValueError, match="taken by Ragged"):
        register_column("test-ragged", ColumnFormat(TensorColumn, as_tensors, lambda tensors, facts: None))


def test_an_unknown_kind_of_column_or_format_is_refused():
    tensors, facts = to_artifact(MULTILABEL)
    with pytest.raises(DataError, match='unknown kind "graphs"'):
        from_artifact(tensors, facts | {"column": {"kind": "graphs", "facts": {}}})
    with pytest.raises(DataError, match="format 99"):
        from_artifact(tensors, facts | {"format": 99})
