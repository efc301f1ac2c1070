"""Splitters cut a partition in two, in a stable order, and refuse what cannot be done."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from erasure.data.dataset import Dataset
from erasure.data.splitters import (
    ByZSplitter,
    ClassSplitter,
    ConcatSplitter,
    ListSplitter,
    NSamplesOfClassSplitter,
    NSamplesSplitter,
    PercentageSplitter,
    StratifiedPercentageSplitter,
    ZRangeSplitter,
)
from erasure.errors import InvalidParameters, PartitionError
from erasure.training.batches import TensorColumn

PARTS = ("first", "second")


def a_dataset(y, z=None, **facts):
    y = torch.as_tensor(y)
    facts.setdefault("n_classes", int(y.max()) + 1)
    z = None if z is None else torch.as_tensor(z)
    return Dataset(name="toy", x=TensorColumn(torch.zeros(len(y), 1)), y=y, x_shape=(1,), z=z, **facts)


def cut(splitter, data, ids=None, seed=0, **others):
    partitions = {"all": torch.arange(len(data)), **others}
    if ids is not None:
        partitions[splitter.ref_data] = torch.as_tensor(ids)
    first, second = splitter.split(data, partitions, np.random.default_rng(seed))
    assert first.dtype == second.dtype == torch.int64
    return first.tolist(), second.tolist()


def a_splitter(kind, labels, fraction, shuffle):
    some = labels[0]
    return {
        "percentage": PercentageSplitter(parts_names=PARTS, ref_data="ref", percentage=fraction, shuffle=shuffle),
        "stratified": StratifiedPercentageSplitter(parts_names=PARTS, ref_data="ref", percentage=fraction, shuffle=shuffle),
        "class": ClassSplitter(parts_names=PARTS, ref_data="ref", labels=some),
        "n samples": NSamplesSplitter(parts_names=PARTS, ref_data="ref", n_samples=len(labels) // 2, shuffle=shuffle),
        "of a class": NSamplesOfClassSplitter(parts_names=PARTS, ref_data="ref", label=some, n_samples=1, shuffle=shuffle),
        "z": ByZSplitter(parts_names=PARTS, ref_data="ref", z_labels=10 + some),
        "z range": ZRangeSplitter(parts_names=PARTS, ref_data="ref", z_labels=(10 + some, 11 + some)),
    }[kind]


@given(
    kind=st.sampled_from(["percentage", "stratified", "class", "n samples", "of a class", "z", "z range"]),
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=40),
    fraction=st.floats(0.01, 0.99),
    shuffle=st.booleans(),
    seed=st.integers(0, 2**32),
)
def test_every_splitter_partitions_its_reference_data(kind, labels, fraction, shuffle, seed):
    everything = [*labels, 3]
    data = a_dataset(everything, z=[10 + label for label in everything])
    reference = np.random.default_rng(seed).permutation(len(labels))
    splitter = a_splitter(kind, labels, fraction, shuffle)
    first, second = cut(splitter, data, reference, seed)
    assert sorted(first + second) == sorted(reference.tolist())
    assert (first, second) == cut(splitter, data, reference, seed)
    if not getattr(splitter, "shuffle", False):
        positions = {each: position for position, each in enumerate(reference.tolist())}
        for part in (first, second):
            assert part == sorted(part, key=positions.__getitem__)


def test_a_percentage_is_not_lost_to_rounding():
    splitter = PercentageSplitter(parts_names=PARTS, percentage=0.29)
    first, second = cut(splitter, a_dataset([0] * 99 + [1]))
    assert (len(first), len(second)) == (29, 71)


def test_without_shuffling_a_percentage_takes_the_first_samples():
    splitter = PercentageSplitter(parts_names=PARTS, percentage=0.5, shuffle=False)
    assert cut(splitter, a_dataset([0, 1, 0, 1])) == ([0, 1], [2, 3])


def test_a_shuffled_split_hands_out_the_order_drawn_so_that_its_first_samples_are_random():
    splitter = PercentageSplitter(parts_names=PARTS, percentage=0.5)
    first, _ = cut(splitter, a_dataset([0, 1] * 100))
    assert first != sorted(first)
    assert first != cut(splitter, a_dataset([0, 1] * 100), seed=1)[0]


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.01, 0.99))
def test_a_stratified_part_has_each_class_within_one_sample_of_its_share(labels, fraction):
    data = a_dataset(labels)
    first, _second = cut(StratifiedPercentageSplitter(parts_names=PARTS, percentage=fraction), data)
    plain, _ = cut(PercentageSplitter(parts_names=PARTS, percentage=fraction), data)
    assert len(first) == len(plain)
    for label in set(labels):
        taken = sum(labels[i] == label for i in first)
        assert abs(taken - fraction * labels.count(label)) < 1 + 1e-6


def test_multilabel_samples_are_stratified_by_their_combination_of_labels():
    y = torch.tensor([[0, 1], [1, 1]] * 10).float()
    data = a_dataset(y, n_classes=2, task="multilabel")
    first, _ = cut(StratifiedPercentageSplitter(parts_names=PARTS, percentage=0.5), data)
    assert y[first].sum(0).tolist() == [5, 10]


def test_classes_are_selected_by_number_and_by_name():
    data = a_dataset([0, 1, 2, 1], class_names=("cat", "dog", "bird"))
    assert cut(ClassSplitter(parts_names=PARTS, labels=1), data) == ([1, 3], [0, 2])
    assert cut(ClassSplitter(parts_names=PARTS, labels="dog"), data) == ([1, 3], [0, 2])
    assert cut(ClassSplitter(parts_names=PARTS, labels=["dog", 2]), data) == ([1, 2, 3], [0])


def test_one_label_and_a_list_of_one_are_the_same_splitter():
    assert ClassSplitter(parts_names=PARTS, labels=3) == ClassSplitter(parts_names=PARTS, labels=[3])


def test_a_multilabel_sample_belongs_to_each_of_its_classes():
    data = a_dataset(torch.tensor([[1, 0], [1, 1], [0, 0]]).float(), n_classes=2, task="multilabel")
    assert cut(ClassSplitter(parts_names=PARTS, labels=1), data) == ([1], [0, 2])
    assert cut(ClassSplitter(parts_names=PARTS, labels=[0, 1]), data) == ([0, 1], [2])


def test_the_first_samples_of_a_class_are_taken_in_order():
    splitter = NSamplesOfClassSplitter(parts_names=PARTS, label=1, n_samples=2, shuffle=False)
    assert cut(splitter, a_dataset([1, 0, 1, 1])) == ([0, 2], [1, 3])


def test_listed_ids_keep_the_order_of_the_reference():
    splitter = ListSplitter(parts_names=PARTS, ref_data="train", samples_ids=[1, 3, 1])
    assert cut(splitter, a_dataset([0, 1, 0, 1]), ids=[3, 2, 1]) == ([3, 1], [2])


def test_groups_are_selected_by_any_of_the_z_values():
    data = a_dataset([0, 1, 0], z=[[0, 2], [1, 3], [0, 3]], z_names=("young", "old", "Rome", "Oslo"))
    assert cut(ByZSplitter(parts_names=PARTS, z_labels=[1, 2]), data) == ([0, 1], [2])
    assert cut(ByZSplitter(parts_names=PARTS, z_labels="Oslo"), data) == ([1, 2], [0])
    assert cut(ZRangeSplitter(parts_names=PARTS, z_labels=(1, 2)), data) == ([0, 1], [2])


def test_concatenation_keeps_the_order_and_drops_duplicates():
    splitter = ConcatSplitter(parts_names=PARTS, concat_splits=["b", "a"])
    data = a_dataset([0, 1, 0, 1, 0])
    assert cut(splitter, data, a=torch.tensor([3, 0]), b=torch.tensor([4, 3])) == ([4, 3, 0], [1, 2])


NAMED = a_dataset([0, 1, 1], z=[7, 8, 8], class_names=("cat", "dog"))
IMPOSSIBLE = [
    (NSamplesSplitter(parts_names=PARTS, n_samples=4), ['4 samples asked for, but "all" has 3']),
    (
        NSamplesSplitter(parts_names=PARTS, n_samples=1, ref_data="tets"),
        ['no partition "tets"', '"all"', '"test"', "did you mean"],
    ),
    (ClassSplitter(parts_names=PARTS, labels=2), ["no class 2", "2 classes, 0 to 1", "cat, dog"]),
    (ClassSplitter(parts_names=PARTS, labels=-1), ["no class -1"]),
    (ClassSplitter(parts_names=PARTS, labels=["dgo"]), ["no class 'dgo'", "cat, dog", 'did you mean "dog"?']),
    (ClassSplitter(parts_names=PARTS, labels=0, ref_data="test"), ['"test" has no sample of class 0', "samples of dog"]),
    (NSamplesOfClassSplitter(parts_names=PARTS, label=1, n_samples=3), ["3 samples of class 1", '"all" has 2']),
    (ListSplitter(parts_names=PARTS, samples_ids=[0, 3, -1]), ["2 of the listed ids", "-1, 3", "ids 0 to 2"]),
    (ListSplitter(parts_names=PARTS, samples_ids=[0], ref_data="test"), ['not in "test": 0', "2 of 3 samples"]),
    (ByZSplitter(parts_names=PARTS, z_labels=[7, 9]), ["z = 9", "there are 7, 8"]),
    (ByZSplitter(parts_names=PARTS, z_labels=7, ref_data="test"), ['"test" has such a z', "it has 8"]),
    (ByZSplitter(parts_names=PARTS, z_labels="Rome"), ["does not name its z values"]),
    (ZRangeSplitter(parts_names=PARTS, z_labels=(20, 30)), ["it has 7, 8"]),
    (ConcatSplitter(parts_names=PARTS, concat_splits=["all"], ref_data="test"), ['not in "test": 0']),
    (ConcatSplitter(parts_names=PARTS, concat_splits=["tset"]), ['no partition "tset"', 'did you mean "test"?']),
]


@pytest.mark.parametrize(("splitter", "said"), IMPOSSIBLE, ids=lambda value: type(value).__name__)
def test_an_impossible_request_says_what_was_asked_and_what_there_is(splitter, said):
    with pytest.raises(PartitionError) as error:
        cut(splitter, NAMED, test=torch.tensor([1, 2]))
    for words in said:
        assert words in str(error.value)


def test_splitting_by_group_needs_a_group_column():
    with pytest.raises(PartitionError, match="no z column"):
        cut(ByZSplitter(parts_names=PARTS, z_labels=1), a_dataset([0, 1]))


@pytest.mark.parametrize("percentage", [0, -0.1, 1.5, "half"])
def test_a_percentage_is_more_than_nothing_and_at_most_everything(percentage):
    with pytest.raises(InvalidParameters, match="percentage"):
        PercentageSplitter(parts_names=PARTS, percentage=percentage)


def test_a_percentage_of_one_shuffles_all():
    first, second = cut(PercentageSplitter(parts_names=PARTS, percentage=1), a_dataset([0] * 50))
    assert second == []
    assert first != list(range(50))
    assert sorted(first) == list(range(50))


def test_a_reversed_range_is_refused():
    with pytest.raises(InvalidParameters, match="5 is larger than the last, 2"):
        ZRangeSplitter(parts_names=PARTS, z_labels=(5, 2))
