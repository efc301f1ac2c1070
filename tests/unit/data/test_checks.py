"""A data set that cannot be learned from is refused; what was hardly meant is a warning."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from erasure.data.checks import check_dataset, checked, read_as
from erasure.data.dataset import Dataset
from erasure.errors import DataError
from erasure.training.batches import TensorColumn


def a_dataset(**facts):
    facts = {"x": torch.zeros(4, 2), "y": torch.tensor([0, 1, 0, 1]), "n_classes": 2, "x_shape": (2,)} | facts
    if isinstance(facts["x"], torch.Tensor):
        facts["x"] = TensorColumn(facts["x"])
    return Dataset(name="toy", **facts)


MULTILABEL = a_dataset(y=torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]]), task="multilabel")


@pytest.mark.parametrize("data", [a_dataset(), a_dataset(task="binary"), MULTILABEL, a_dataset(z=torch.zeros(4, 3).long())])
def test_a_sound_data_set_passes_without_a_word(data):
    assert check_dataset(data) == []
    assert checked(data) is data


@pytest.mark.parametrize(
    ("data", "warning"),
    [
        (a_dataset(y=torch.zeros(4).long()), "every sample is of class 0"),
        (a_dataset(n_classes=5), "3 of 5 classes have no sample"),
        (replace(MULTILABEL, y=torch.ones(4, 2)), "the labels [0, 1] are the same for every sample"),
    ],
)
def test_labels_that_teach_little_are_a_warning(data, warning):
    assert any(warning in each for each in check_dataset(data))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (a_dataset(x=torch.zeros(0, 2), y=torch.zeros(0).long()), '"toy" is empty'),
        (a_dataset(y=torch.tensor([0, 1])), "x has 4 samples, but y has 2"),
        (a_dataset(z=torch.zeros(3).long()), "but z has 3"),
        (a_dataset(z=torch.zeros(4)), "z must be int64 of shape (N,) or (N, m), found float32 of shape (4,)"),
        (a_dataset(class_names=("a",)), "1 class names for 2 classes"),
        (
            a_dataset(y=torch.tensor([0, 1, 2, 2])),
            "2 labels are out of range: sample 2 has 2, expected whole numbers from 0 to 1",
        ),
        (a_dataset(y=torch.zeros(4)), "y must be int64 of shape (N,), found float32"),
        (a_dataset(task="binary", n_classes=3), "a binary task has 2 classes, found n_classes = 3"),
        (replace(MULTILABEL, n_classes=3), "y must be float32 of shape (N, 3), found float32 of shape (4, 2)"),
        (replace(MULTILABEL, y=torch.full((4, 2), 0.5)), "expected 0 or 1"),
        (a_dataset(x_shape=(3,)), "x_shape says (3,), but a sample has shape (2,)"),
        (a_dataset(feature_names=("a",)), "1 feature names for 2 columns"),
        (a_dataset(x=TensorColumn(torch.zeros(4, 2), mean=torch.zeros(2), std=torch.tensor([1.0, 0.0]))), "std contains 0"),
    ],
)
def test_a_data_set_that_cannot_be_learned_from_is_refused(data, said):
    with pytest.raises(DataError) as error:
        check_dataset(data)
    assert said in str(error.value)


def test_values_that_are_not_finite_are_named_by_column_and_sample():
    x = torch.zeros(9, 3)
    x[2, 1], x[5, 1], x[7, 2] = float("nan"), float("inf"), float("nan")
    data = a_dataset(x=x, y=torch.zeros(9).long(), x_shape=(3,), feature_names=("age", "income", "rent"))
    with pytest.raises(DataError, match=r'"income" \(2\), "rent" \(1\); first samples: 2, 5, 7'):
        check_dataset(data)


def test_making_components_imports_none_of_the_heavy_libraries():
    program = (
        "import sys; import erasure.data.sources.table, erasure.data.sources.tensor_file, erasure.data.sources.scikit_learn;"
        "import erasure.data.sources.synthetic, erasure.data.splitters, erasure.data.partitions;"
        "heavy = {'pandas', 'sklearn', 'pyarrow', 'torchvision', 'safetensors'};"
        "print(sorted(heavy & {*sys.modules}));"
        "import erasure.data.sources.torchvision_dataset, erasure.data.sources.uci, erasure.data.sources.hugging_face;"
        "import erasure.models.timm_model, erasure.models.torchvision_model;"
        "print(sorted({'PIL', 'datasets', 'timm', 'torchvision', 'transformers', 'ucimlrepo'} & {*sys.modules}))"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert shown.split() == ["[]", "[]"]


def test_labels_are_read_in_another_way_only_where_they_can_be():
    two, three = (
        Dataset(name="d", x=TensorColumn(torch.zeros(4, 2)), y=torch.tensor([0, 1, 1, 0]), n_classes=n, x_shape=(2,))
        for n in (2, 3)
    )
    several = Dataset(
        name="d", x=TensorColumn(torch.zeros(4, 2)), y=torch.zeros(4, 3), n_classes=3, x_shape=(2,), task="multilabel"
    )
    assert read_as(two, None) is two
    assert (read_as(two, "binary").task, read_as(read_as(two, "binary"), "classification").task) == ("binary", "classification")
    for data, task, found in [
        (three, "binary", "one of 3 classes"),
        (two, "multilabel", "one of 2 classes"),
        (several, "classification", "3 labels of 0 or 1"),
        (several, "binary", "3 labels of 0 or 1"),
    ]:
        with pytest.raises(
            DataError, match=f'each sample has {found}, which cannot be read as task = "{task}"; leave the task out'
        ):
            read_as(data, task)
