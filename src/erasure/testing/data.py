"""What every source, splitter and preprocessing step must keep to, as test suites to inherit.

::

    class TestMySource(SourceConformance):
        def make(self):
            return MySource(n_samples=50)


    class TestMySplitter(SplitterConformance):
        def make(self):
            return MySplitter(parts_names=("forget", "retain"))


    class TestMyStep(StepConformance):
        def make(self):
            return MyStep(x=True)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from erasure.component import canonical
from erasure.data.contract import DataSource, Splitter
from erasure.data.dataset import Dataset
from erasure.data.preprocess.contract import Step
from erasure.data.preprocess.samples import Field, Samples
from erasure.data.storage import from_artifact, to_artifact
from erasure.errors import PartitionError
from erasure.testing.checks import array_digest, check, check_generators, global_states
from erasure.training.batches import TensorColumn

__all__ = ["SourceConformance", "SplitterConformance", "StepConformance", "toy_dataset", "toy_samples"]


def toy_dataset(n: int = 60, *, n_classes: int = 3, seed: int = 0) -> Dataset:
    """A small classified table with two groups and known clean labels, the same for the same arguments.

    Args:
        n: Samples.
        n_classes: Classes; each occurs for ``n >= n_classes``.
        seed: Of the inputs.
    """
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % n_classes
    x = torch.randn(n, 4, generator=generator) + y[:, None]
    return Dataset(name="toy", x=TensorColumn(x), y=y, n_classes=n_classes, x_shape=(4,), z=torch.arange(n) // 2 % 5)


def toy_samples() -> Samples:
    """Six samples with a column of numbers and one of texts, labels in words, and a group."""
    words = np.array(["red apple", "green pear", "red pear", "blue plum", "green apple", "red plum"], dtype=object)
    numbers = np.array([1.5, 2.0, 3.5, 4.0, 5.5, 6.0])
    labels = np.array(["sweet", "sour", "sweet", "sour", "sweet", "sour"], dtype=object)
    groups = np.array(["a", "a", "b", "b", "c", "c"], dtype=object)
    x = {"size": Field(numbers), "text": Field(words)}
    return Samples(name="toy", x=x, y={"taste": Field(labels)}, z={"grower": Field(groups)})


class SourceConformance:
    """Checks of one data source; give :meth:`make`."""

    def make(self) -> DataSource:
        """The source under test, small and without a network."""
        raise NotImplementedError

    # What it yields

    def test_columns_belong_together(self) -> None:
        data = self.make().load()
        n = len(data)
        check(n > 0, "the source yields no samples")
        check(len(data.x) == n and len(data.y) == n, f"{len(data.x)} inputs and {len(data.y)} labels for {n} samples")
        for name in ("z", "clean_y", "rows", "corrupted"):
            values = getattr(data, name)
            check(values is None or len(values) == n, f"{name} has another length than the labels")
        check(
            not data.feature_names or data.modality != "table" or len(data.feature_names) == data.x_shape[-1], "names of features"
        )

    def test_labels_are_what_the_task_says(self) -> None:
        data = self.make().load()
        if data.task == "multilabel":
            check(data.y.shape == (len(data), data.n_classes), "multilabel labels are (N, n_classes)")
            check(bool(((data.y == 0) | (data.y == 1)).all()), "multilabel labels are 0 and 1")
        elif data.task in {"classification", "binary"}:
            check(
                data.y.dtype == torch.int64 and data.y.ndim == 1,
                f"labels are {data.y.dtype} {tuple(data.y.shape)}, not int64 (N,)",
            )
            check(int(data.y.min()) >= 0 and int(data.y.max()) < data.n_classes, f"labels outside [0, {data.n_classes})")
        check(not data.class_names or len(data.class_names) == data.n_classes, "there are not as many class names as classes")

    def test_inputs_are_gathered_by_id_in_any_order(self) -> None:
        data = self.make().load()
        if not isinstance(data.x, TensorColumn):
            return  # other columns make batches of their own kind
        ids = torch.arange(min(len(data), 8))
        there, back = data.x.gather(ids), data.x.gather(ids.flip(0))
        check(torch.equal(there.flip(0), back), "what a sample's inputs are depends on the order they are gathered in")
        check(tuple(there.shape[1:]) == tuple(data.x_shape), f"x_shape is {data.x_shape}, a sample is {tuple(there.shape[1:])}")
        check(not there.is_floating_point() or bool(torch.isfinite(there).all()), "inputs are not finite")

    # What a store relies on

    def test_equal_sources_have_one_address_and_yield_the_same_bytes(self) -> None:
        one, other = self.make(), self.make()
        check(canonical(one) == canonical(other), "two sources made alike have different addresses")
        check(_digests(one.load()) == _digests(other.load()), "two sources made alike yield different data")

    def test_the_fingerprint_is_plain_json_and_loading_does_not_change_it(self) -> None:
        source = self.make()
        before = json.dumps(source.fingerprint(), sort_keys=True, allow_nan=False)
        source.load()
        check(json.dumps(source.fingerprint(), sort_keys=True, allow_nan=False) == before, "loading changes the fingerprint")

    def test_the_store_gives_back_what_was_loaded(self) -> None:
        data = self.make().load()
        tensors, facts = to_artifact(data)
        back = from_artifact(tensors, json.loads(json.dumps(facts)))
        check(_digests(back) == _digests(data), "the data set is another one after it was stored")
        check((back.n_classes, back.task, back.modality) == (data.n_classes, data.task, data.modality), "its facts changed")

    def test_no_global_generator_is_consumed(self) -> None:
        before = global_states()
        self.make().load()
        check_generators(before)


class SplitterConformance:
    """Checks of one splitter; give :meth:`make`, and change the class data or the data where the splitter differs.

    Class data:
        stochastic: Whether another seed gives other parts; if False, it must give the same.
        covers: Whether the parts together are all of ``ref_data``.
        disjoint: Whether no two parts share a sample.
    """

    stochastic: ClassVar[bool] = True
    covers: ClassVar[bool] = True
    disjoint: ClassVar[bool] = True

    def make(self) -> Splitter:
        """The splitter under test."""
        raise NotImplementedError

    def data(self) -> Dataset:
        """The data set that it is tried on."""
        return toy_dataset()

    def partitions(self, data: Dataset) -> dict[str, Tensor]:
        """The partitions made before; :attr:`Splitter.ref_data` must be among them."""
        return {"all": torch.arange(len(data))}

    def parts(self, seed: int = 0) -> tuple[Tensor, ...]:
        """What the splitter gives for a seed."""
        data = self.data()
        return self.make().split(data, self.partitions(data), np.random.default_rng(seed))

    def test_there_are_as_many_parts_as_names_each_of_whole_numbers(self) -> None:
        parts = self.parts()
        check(len(parts) == len(self.make().parts), f"{len(parts)} parts for the names {self.make().parts}")
        check(all(part.dtype == torch.int64 and part.ndim == 1 for part in parts), "parts are int64 ids (n,)")

    def test_no_sample_is_lost_doubled_or_made_up(self) -> None:
        data = self.data()
        whole = set(self.partitions(data)[self.make().ref_data].tolist())
        parts = self.parts()
        for name, part in zip(self.make().parts, parts, strict=True):
            check(len(set(part.tolist())) == len(part), f"{name} has a sample twice")
            check(set(part.tolist()) <= whole, f"{name} has samples that {self.make().ref_data} does not have")
        if self.disjoint:
            check(sum(map(len, parts)) == len(set().union(*(part.tolist() for part in parts))), "two parts share a sample")
        if self.covers:
            check(set().union(*(part.tolist() for part in parts)) == whole, "samples are in no part")

    def test_the_same_seed_gives_the_same_parts_in_the_same_order(self) -> None:
        check(_same(self.parts(3), self.parts(3)), "two splits of one seed differ")

    def test_the_seed_matters_exactly_if_the_splitter_is_stochastic(self) -> None:
        differs = any(not _same(self.parts(0), self.parts(seed)) for seed in range(1, 6))
        check(
            differs == self.stochastic, f"stochastic is {self.stochastic}, and {'other' if differs else 'no other'} seeds differ"
        )

    def test_data_and_partitions_stay_as_they_are(self) -> None:
        data = self.data()
        partitions = self.partitions(data)
        before = _digests(data), {name: array_digest(ids) for name, ids in partitions.items()}
        self.make().split(data, partitions, np.random.default_rng(0))
        check(
            before == (_digests(data), {name: array_digest(ids) for name, ids in partitions.items()}),
            "splitting changed its input",
        )

    def test_no_global_generator_is_consumed(self) -> None:
        before = global_states()
        self.parts()
        check_generators(before)

    def test_an_empty_partition_is_split_into_empty_parts_or_refused(self) -> None:
        data = self.data()
        empty = self.partitions(data) | {self.make().ref_data: torch.empty(0, dtype=torch.int64)}
        try:
            parts = self.make().split(data, empty, np.random.default_rng(0))
        except PartitionError as refusal:
            check(bool(str(refusal).strip()), "the refusal gives no reason")
        else:
            check(not self.covers or all(len(part) == 0 for part in parts), "samples came out of an empty partition")


class StepConformance:
    """Checks of one preprocessing step; give :meth:`make`, and :meth:`samples` where it needs others."""

    def make(self) -> Step:
        """The step under test."""
        raise NotImplementedError

    def samples(self) -> Samples:
        """The samples that it is tried on."""
        return toy_samples()

    def test_the_given_samples_are_not_changed(self) -> None:
        samples = self.samples()
        before = _sample_digests(samples)
        self.make().apply(samples)
        check(_sample_digests(samples) == before, "the step changed the samples that it was given")

    def test_the_same_samples_become_the_same(self) -> None:
        one, other = (self.make().apply(self.samples()) for _ in range(2))
        check(_sample_digests(one) == _sample_digests(other), "the same step gives other samples a second time")

    def test_labels_and_groups_stay_with_their_inputs(self) -> None:
        done = self.make().apply(self.samples())
        columns = [*(done.x.values() if isinstance(done.x, Mapping) else [done.x]), *done.y.values(), *done.z.values()]
        check({len(column) for column in columns} == {len(done)}, "columns have different lengths after the step")

    def test_the_fingerprint_is_plain_json_and_equal_steps_have_one_address(self) -> None:
        one, other = self.make(), self.make()
        check(
            json.dumps(one.fingerprint()) == json.dumps(other.fingerprint()), "two steps made alike have different fingerprints"
        )
        check(canonical(one) == canonical(other), "two steps made alike have different addresses")

    def test_no_global_generator_is_consumed(self) -> None:
        before = global_states()
        self.make().apply(self.samples())
        check_generators(before)


def _digests(data: Dataset) -> dict[str, str]:
    tensors, _ = to_artifact(data)
    return {name: array_digest(values.numpy()) for name, values in tensors.items()}


def _sample_digests(samples: Samples) -> dict[str, str]:
    x = samples.x if isinstance(samples.x, Mapping) else {"": Field(np.asarray(samples.x.gather(torch.arange(len(samples.x)))))}
    parts = {"x": x, "y": samples.y, "z": samples.z}
    return {
        f"{part} {name}": array_digest(column.values) + repr(column.names)
        for part, fields in parts.items()
        for name, column in fields.items()
    }


def _same(one: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
