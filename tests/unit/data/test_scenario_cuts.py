"""Whole groups, streams of requests and corrupted samples are cut off, and what cannot be done is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from erasure.data.dataset import Dataset
from erasure.data.partitions import build_partitions, inspect_partitions
from erasure.data.scenarios.corrupted import CorruptedSplitter
from erasure.data.scenarios.groups import GroupSplitter
from erasure.data.scenarios.requests import RequestsSplitter
from erasure.data.splitters import ByZSplitter, ConcatSplitter, NSamplesSplitter, PercentageSplitter
from erasure.errors import InvalidParameters, PartitionError
from erasure.training.batches import TensorColumn

PARTS = ("first", "second")


def people(groups, **facts):
    z = torch.tensor(groups)
    x = TensorColumn(torch.arange(2.0 * len(z)).reshape(-1, 2))
    return Dataset(name="people", x=x, y=torch.arange(len(z)) % 2, n_classes=2, x_shape=(2,), z=z, **facts)


def cut(splitter, data, ids=None, seed=0):
    partitions = {"all": torch.arange(len(data)) if ids is None else torch.as_tensor(ids)}
    return [part.tolist() for part in splitter.split(data, partitions, np.random.default_rng(seed))]


# Groups


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.data())
def test_groups_are_never_cut_in_two(groups, drawn):
    data = people(groups)
    n_groups = drawn.draw(st.integers(1, len(set(groups))))
    reference = np.random.default_rng(0).permutation(len(groups))
    splitter = GroupSplitter(parts_names=PARTS, n_groups=n_groups)
    first, second = cut(splitter, data, reference, seed=drawn.draw(st.integers(0, 99)))
    assert len({groups[i] for i in first}) == n_groups
    assert not {groups[i] for i in first} & {groups[i] for i in second}
    assert sorted(first + second) == list(range(len(groups)))
    positions = {each: position for position, each in enumerate(reference.tolist())}
    assert first == sorted(first, key=positions.__getitem__)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 99))
def test_no_more_groups_are_drawn_than_make_up_the_share(groups, percentage, seed):
    data = people(groups)
    first, second = cut(GroupSplitter(parts_names=PARTS, percentage=percentage), data, seed=seed)
    wanted = int(percentage * len(groups) + 1e-9)
    largest = max(groups.count(group) for group in set(groups))
    assert wanted <= len(first) < wanted + largest
    assert not {groups[i] for i in first} & {groups[i] for i in second}


def test_the_groups_are_drawn_at_random_from_the_splitters_own_stream():
    data = people([i // 2 for i in range(40)])
    splitter = GroupSplitter(parts_names=PARTS, n_groups=5)
    assert cut(splitter, data) == cut(splitter, data)
    assert len({tuple(cut(splitter, data, seed=seed)[0]) for seed in range(10)}) > 5


def test_one_of_several_columns_says_the_group():
    data = people([[0, 7], [1, 7], [2, 8], [3, 8]])
    assert cut(GroupSplitter(parts_names=PARTS, n_groups=1, column=1), data) in ([[0, 1], [2, 3]], [[2, 3], [0, 1]])


def test_people_of_the_test_set_are_not_trained_on():
    groups = [i % 12 for i in range(96)]
    data = people(groups, z_names=tuple(f"person {i}" for i in range(12)))
    splitters = [
        GroupSplitter(parts_names=("test", "train"), percentage=0.25),
        GroupSplitter(parts_names=("forget", "retain"), ref_data="train", n_groups=2),
    ]
    partitions = build_partitions(data, splitters, seed=3)
    who = {name: {groups[i] for i in ids.tolist()} for name, ids in partitions.items()}
    assert not who["test"] & who["train"]
    assert not who["forget"] & who["retain"]
    assert (len(who["test"]), len(who["forget"])) == (3, 2)
    assert not [issue for issue in inspect_partitions(partitions, data) if issue.severity == "error"]


def test_a_subclass_is_cut_by_the_fine_label_in_z():
    fine = ("rocket", "tank", "rose", "tulip")
    data = replace(people([0, 1, 2, 3, 0, 2]), y=torch.tensor([0, 0, 1, 1, 0, 1]), z_names=fine)
    assert cut(ByZSplitter(parts_names=PARTS, z_labels="rocket"), data) == [[0, 4], [1, 2, 3, 5]]
    assert cut(ByZSplitter(parts_names=PARTS, z_labels=["rocket", "rose"]), data) == [[0, 2, 4, 5], [1, 3]]


def test_what_cannot_be_done_with_groups_is_refused_with_what_there_is():
    with pytest.raises(PartitionError, match='9 groups asked for, but "all" has 3 in column 0'):
        cut(GroupSplitter(parts_names=PARTS, n_groups=9), people([0, 1, 2, 2]))
    with pytest.raises(PartitionError, match="no column 2; it has 1"):
        cut(GroupSplitter(parts_names=PARTS, n_groups=1, column=2), people([0, 1]))
    with pytest.raises(PartitionError, match="no z column"):
        cut(GroupSplitter(parts_names=PARTS, n_groups=1), replace(people([0, 1]), z=None))
    for sizes in ({}, {"n_groups": 1, "percentage": 0.5}):
        with pytest.raises(InvalidParameters, match="either n_groups or percentage"):
            GroupSplitter(parts_names=PARTS, **sizes)


# Requests


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 20), st.booleans(), st.integers(0, 99))
def test_requests_are_disjoint_and_what_is_retained_shrinks_by_each(n_requests, n_samples, n_more, shuffle, seed):
    data = people([0] * (n_requests * n_samples + n_more + 1))
    splitter = RequestsSplitter(parts_names=("forget", "retain"), n_requests=n_requests, n_samples=n_samples, shuffle=shuffle)
    partitions = build_partitions(data, [splitter], seed)
    assert list(partitions) == ["all", *splitter.parts]
    before = set(range(len(data)))
    for number in range(1, n_requests + 1):
        forget, retain = (partitions[f"{name} {number}"].tolist() for name in ("forget", "retain"))
        assert len(forget) == n_samples
        assert set(forget) | set(retain) == before
        assert not set(forget) & set(retain)
        before = set(retain)


def test_unshuffled_requests_ask_for_the_first_samples_first():
    splitter = RequestsSplitter(parts_names=("f", "-"), n_requests=2, percentage=0.25, shuffle=False)
    assert splitter.parts == ("f 1", "-", "f 2", "-")
    partitions = build_partitions(people([0] * 8), [splitter], seed=0)
    assert {name: ids.tolist() for name, ids in partitions.items() if name != "all"} == {"f 1": [0, 1], "f 2": [2, 3]}


def test_requests_are_the_same_as_cutting_again_and_again():
    data = people([0] * 30)
    first = NSamplesSplitter(parts_names=("f1", "r1"), n_samples=4)
    second = NSamplesSplitter(parts_names=("f2", "r2"), ref_data="r1", n_samples=4)
    chained = build_partitions(data, [first, second], seed=0)
    stream = RequestsSplitter(parts_names=("forget", "retain"), n_requests=2, n_samples=4, shuffle=False)
    made = build_partitions(data, [stream], seed=0)
    for name in ("f1", "r1", "f2", "r2"):
        ours = f"{'forget' if name[0] == 'f' else 'retain'} {name[1]}"
        assert torch.equal(chained[name], made[ours])


@given(
    st.lists(st.integers(0, 9), min_size=4, max_size=60), st.integers(1, 2), st.integers(1, 2), st.booleans(), st.integers(0, 99)
)
def test_requests_of_groups_take_all_samples_of_each(groups, n_requests, n_groups, shuffle, seed):
    data = people(groups)
    splitter = RequestsSplitter(parts_names=("f", "r"), n_requests=n_requests, n_groups=n_groups, shuffle=shuffle)
    if n_requests * n_groups > len(set(groups)):
        with pytest.raises(PartitionError, match=f"{n_requests * n_groups} groups, but"):
            cut(splitter, data)
        return
    parts, left = cut(splitter, data, seed=seed), list(range(len(groups)))
    for forget, retain in zip(parts[::2], parts[1::2], strict=True):
        gone = {groups[i] for i in forget}
        assert len(gone) == n_groups
        assert forget == [i for i in left if groups[i] in gone]
        left = [i for i in left if groups[i] not in gone]
        assert retain == left


def test_unshuffled_requests_of_groups_go_by_first_sample():
    splitter = RequestsSplitter(parts_names=("f", "r"), n_requests=2, n_groups=1, shuffle=False)
    assert cut(splitter, people([7, 3, 7, 3, 5])) == [[0, 2], [1, 3, 4], [1, 3], [4]]


def test_named_people_ask_in_their_order():
    data = people([0, 1, 2, 0, 3], z_names=("ann", "bo", "cy", "dee"))
    splitter = RequestsSplitter(parts_names=("f", "r"), groups=(("cy",), ("ann", "dee")))
    assert splitter.parts == ("f 1", "r 1", "f 2", "r 2")
    assert cut(splitter, data) == [[2], [0, 1, 3, 4], [0, 3, 4], [1]]
    with pytest.raises(PartitionError, match="request 1 asks for 'bo', of whom \"all\" has no sample"):
        cut(RequestsSplitter(parts_names=("f", "r"), groups=(("bo",),)), data, ids=[0, 2])
    with pytest.raises(InvalidParameters, match="'ann' is asked for twice"):
        RequestsSplitter(parts_names=("f", "r"), groups=(("ann",), ("bo", "ann")))
    with pytest.raises(PartitionError, match="no z column"):
        cut(splitter, replace(data, z=None))


def test_more_requests_than_there_are_samples_are_refused():
    with pytest.raises(PartitionError, match='5 requests of 3 samples are 15 samples, but "all" has 8'):
        cut(RequestsSplitter(parts_names=PARTS, n_samples=3), people([0] * 8))
    with pytest.raises(PartitionError, match="requests of 0 samples"):
        cut(RequestsSplitter(parts_names=PARTS, percentage=0.1), people([0] * 8))
    with pytest.raises(InvalidParameters, match="either n_samples or percentage"):
        RequestsSplitter(parts_names=PARTS)


def test_a_name_that_stands_for_two_parts_is_refused():
    with pytest.raises(PartitionError, match='two parts are called "same 1"'):
        build_partitions(people([0] * 8), [RequestsSplitter(parts_names=("same", "same"), n_samples=1)], seed=0)


# Corrupted samples


def half_wrong(n=40):
    return replace(people([0] * n), corrupted=torch.arange(n) % 4 == 0, clean_y=torch.zeros(n, dtype=torch.int64))


def test_corrupted_samples_are_cut_off_in_order():
    assert cut(CorruptedSplitter(parts_names=PARTS), half_wrong(8)) == [[0, 4], [1, 2, 3, 5, 6, 7]]
    assert cut(CorruptedSplitter(parts_names=PARTS), half_wrong(8), ids=[5, 4, 1, 0]) == [[4, 0], [5, 1]]


def test_only_some_of_the_corrupted_samples_are_known_and_the_test_set_is_clean():
    splitters = [
        CorruptedSplitter(parts_names=("corrupted", "clean")),
        PercentageSplitter(parts_names=("test", "clean train"), ref_data="clean", percentage=0.5),
        PercentageSplitter(parts_names=("forget", "unknown"), ref_data="corrupted", percentage=0.5),
        ConcatSplitter(parts_names=("retain", "-"), concat_splits=("unknown", "clean train")),
        ConcatSplitter(parts_names=("train", "-"), concat_splits=("forget", "retain")),
    ]
    data = half_wrong()
    partitions = build_partitions(data, splitters, seed=0)
    assert not data.corrupted[partitions["test"]].any()
    assert data.corrupted[partitions["forget"]].all()
    assert int(data.corrupted[partitions["retain"]].sum()) == 5
    assert not [issue for issue in inspect_partitions(partitions, data) if issue.severity == "error"]


def test_data_without_corrupted_samples_is_refused():
    with pytest.raises(PartitionError, match="put a Poisoned source around"):
        cut(CorruptedSplitter(parts_names=PARTS), people([0, 1]))
    with pytest.raises(PartitionError, match='no sample of "all" is corrupted; "people" has 2 such samples in all'):
        cut(CorruptedSplitter(parts_names=PARTS), half_wrong(8), ids=[1, 2])
