"""Partitions are built in order from independent streams, and what is wrong with them is found before training."""

from dataclasses import replace

import pytest
import torch

from erasure.data.dataset import Dataset
from erasure.data.partitions import build_partitions, inspect_partitions
from erasure.data.splitters import ClassSplitter, NSamplesSplitter, PercentageSplitter
from erasure.errors import PartitionError
from erasure.training.batches import TensorColumn


def a_dataset(n_samples=100, x=None):
    y = torch.arange(n_samples) % 4
    x = torch.arange(n_samples * 2).reshape(-1, 2).float() if x is None else x
    return Dataset(name="toy", x=TensorColumn(x), y=y, n_classes=4, x_shape=(2,), class_names=("a", "b", "c", "d"))


def test_classes_that_were_hardly_meant_are_told_of():
    data = replace(a_dataset(40), y=torch.arange(40), n_classes=40, class_names=("Yes", "yes ", *map(str, range(38))))
    found = [issue.message for issue in inspect_partitions({"all": torch.arange(40), "train": torch.arange(40)}, data)]
    assert found == [
        "its 40 samples are of 40 classes: is what is learned a class, and not a number or an id?",
        '"Yes" and "yes " are two classes; write them alike if they are one',
    ]


def test_labels_that_count_from_one_are_told_of():
    data = replace(a_dataset(40), y=torch.arange(40) % 3 + 1, class_names=())
    found = [issue.message for issue in inspect_partitions({"all": torch.arange(40), "train": torch.arange(40)}, data)]
    assert [message.startswith("no sample is of class 0") for message in found] == [True]


TRAIN_TEST = PercentageSplitter(parts_names=("train", "test"), percentage=0.8)
FORGET_RETAIN = PercentageSplitter(parts_names=("forget", "retain"), ref_data="train", percentage=0.1)


def test_partitions_come_in_the_order_of_definition_with_all_first():
    partitions = build_partitions(a_dataset(), [TRAIN_TEST, FORGET_RETAIN], seed=0)
    assert list(partitions) == ["all", "train", "test", "forget", "retain"]
    assert {name: len(ids) for name, ids in partitions.items()} == {
        "all": 100,
        "train": 80,
        "test": 20,
        "forget": 8,
        "retain": 72,
    }


def test_the_same_seed_gives_the_same_partitions_and_another_seed_others():
    first, again, other = (build_partitions(a_dataset(), [TRAIN_TEST], seed=seed)["train"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_adding_a_splitter_never_changes_what_another_draws():
    unrelated = PercentageSplitter(parts_names=("shadow", "-"), percentage=0.5)
    alone = build_partitions(a_dataset(), [TRAIN_TEST, FORGET_RETAIN], seed=0)
    together = build_partitions(a_dataset(), [unrelated, TRAIN_TEST, unrelated, FORGET_RETAIN], seed=0, notify=lambda _: None)
    for name, ids in alone.items():
        assert torch.equal(ids, together[name])


def test_two_splitters_of_the_same_shape_draw_differently():
    other = TRAIN_TEST.replace(parts_names=("a", "b"))
    partitions = build_partitions(a_dataset(), [TRAIN_TEST, other], seed=0)
    assert not torch.equal(partitions["train"], partitions["a"])


def test_a_part_called_minus_is_thrown_away():
    partitions = build_partitions(a_dataset(), [TRAIN_TEST.replace(parts_names=("-", "test"))], seed=0)
    assert list(partitions) == ["all", "test"]


def test_a_later_definition_replaces_an_earlier_one_with_a_notice():
    notices = []
    first_ten = NSamplesSplitter(parts_names=("test", "-"), n_samples=10)
    partitions = build_partitions(a_dataset(), [TRAIN_TEST, first_ten], seed=0, notify=notices.append)
    assert partitions["test"].tolist() == list(range(10))
    assert len(notices) == 1
    assert 'replaces the partition "test" (20 samples) by 10' in notices[0]


def test_a_replaced_partition_is_logged_unless_somebody_listens(caplog):
    build_partitions(a_dataset(), [TRAIN_TEST, TRAIN_TEST], seed=0)
    assert 'replaces the partition "train"' in caplog.text


@pytest.mark.parametrize(
    ("splitter", "said"),
    [
        (FORGET_RETAIN.replace(ref_data="tain"), 'partitions[1] (PercentageSplitter): there is no partition "tain"'),
        (TRAIN_TEST.replace(parts_names=("all", "x")), '"all" always means the whole data set'),
        (TRAIN_TEST.replace(parts_names=("x", "x")), 'both parts are called "x"'),
        (NSamplesSplitter(parts_names=("x", "-"), n_samples=999), "partitions[1] (NSamplesSplitter): 999 samples asked for"),
    ],
)
def test_a_split_that_fails_names_the_splitter(splitter, said):
    with pytest.raises(PartitionError) as error:
        build_partitions(a_dataset(), [TRAIN_TEST, splitter], seed=0)
    assert said in str(error.value)


def issues(data=None, **partitions):
    data = data or a_dataset()
    partitions = {"all": torch.arange(len(data)), **{name: torch.tensor(ids).long() for name, ids in partitions.items()}}
    return [(issue.severity, issue.partition, issue.message) for issue in inspect_partitions(partitions, data)]


def test_sound_partitions_have_no_issue():
    assert issues(train=range(80), test=range(80, 100), forget=range(8), retain=range(8, 80)) == []


def test_the_partitions_of_a_plain_experiment_have_no_issue():
    data = a_dataset()
    assert inspect_partitions(build_partitions(data, [TRAIN_TEST, FORGET_RETAIN], seed=0), data) == []


def test_a_renamed_forget_set_is_inspected_under_its_name():
    data = a_dataset()
    partitions = build_partitions(data, [TRAIN_TEST, FORGET_RETAIN.replace(parts_names=("gone", "kept"))], seed=0)
    partitions["gone"] = torch.cat([partitions["gone"], partitions["kept"][:1]])
    found = inspect_partitions(partitions, data, forget="gone", retain="kept")
    assert [str(issue) for issue in found] == ['error: partition "gone": 1 of its 9 samples are also in "kept"']


BAD = [
    ({"train": range(80), "forget": [], "retain": range(80)}, ("error", "forget"), "it is empty"),
    ({"spare": []}, ("warning", "spare"), "it is empty"),
    (
        {"train": range(80), "forget": range(80), "retain": []},
        ("error", "retain"),
        'since "forget" takes everything; forget less',
    ),
    ({"forget": range(10), "retain": range(5, 90)}, ("error", "forget"), '5 of its 10 samples are also in "retain"'),
    ({"train": range(5, 90), "forget": range(10)}, ("error", "forget"), '5 of its 10 samples are not in "train"'),
    ({"train": range(50), "retain": range(60)}, ("warning", "retain"), '10 of its 60 samples are not in "train"'),
    ({"train": range(50), "forget": range(5), "retain": range(5, 40)}, ("warning", "retain"), '10 of "train" are neither'),
    ({"train": range(50), "test": range(45, 60)}, ("error", "test"), '5 in "train"'),
    ({"train": range(50), "validation": [3]}, ("error", "validation"), '1 in "train"'),
    ({"forget": range(50), "test": [3]}, ("error", "test"), '1 in "forget"'),
    ({"train": range(50), "retain": range(0, 50, 2)}, ("warning", "retain"), "2 of the classes to be learned: b, d"),
    ({"train": range(1, 50, 4)}, ("warning", "train"), "every sample is of class b"),
]


@pytest.mark.parametrize(("partitions", "where", "message"), BAD)
def test_what_is_wrong_with_partitions_is_found(partitions, where, message):
    found = issues(**{name: list(ids) for name, ids in partitions.items()})
    assert any((severity, partition) == where and message in text for severity, partition, text in found), found


def test_a_data_set_of_one_class_is_refused():
    alike = replace(a_dataset(), y=torch.zeros(100, dtype=torch.int64), n_classes=1, class_names=())
    severity, partition, text = issues(alike, train=range(50))[0]
    assert (severity, partition) == ("error", "train")
    assert "there is nothing to learn" in text


def test_errors_come_before_warnings():
    found = issues(spare=[], train=list(range(50)), test=[3])
    assert [severity for severity, _, _ in found] == ["error", "warning"]


def test_copies_of_training_inputs_among_the_test_samples_are_counted():
    x = torch.arange(200).reshape(-1, 2).float()
    x[90], x[91], x[92] = x[3], x[50], x[93]
    found = issues(a_dataset(x=x), train=range(80), test=range(80, 100), forget=range(8), retain=range(8, 80))
    assert found == [("warning", "test", '2 of its 20 samples are exact copies of inputs in "train", 1 of them of "forget"')]


def test_looking_for_copies_can_be_switched_off():
    data = a_dataset(x=torch.zeros(100, 2))
    partitions = build_partitions(data, [TRAIN_TEST], seed=0)
    assert len(inspect_partitions(partitions, data)) == 1
    assert inspect_partitions(partitions, data, find_duplicates=False) == []


def test_forgetting_a_whole_class_warns_that_retain_has_none_of_it():
    data = a_dataset()
    partitions = build_partitions(
        data, [TRAIN_TEST, ClassSplitter(parts_names=("forget", "retain"), ref_data="train", labels="c")], 0
    )
    found = inspect_partitions(partitions, data)
    assert [(issue.severity, issue.partition) for issue in found] == [("warning", "retain")]
    assert "c" in found[0].message
