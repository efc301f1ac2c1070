import pytest
import torch
from measure_toys import evaluation_of

from erasure.errors import PartitionError
from erasure.measures.partition_info import PartitionInfo


def _found(labels, logits, **options):
    evaluation = evaluation_of({"forget": labels}, {"forget": logits}, **options)
    return {value.name: value.value for value in PartitionInfo().measure(evaluation)}


def test_size_and_every_class_are_counted_on_the_whole_partition():
    found = _found(torch.tensor([0] * 65 + [2] * 35), torch.zeros(100, 3))
    assert found == {
        "size": 100,
        "size[0]": 65,
        "share[0]": 0.65,
        "size[1]": 0,
        "share[1]": 0.0,
        "size[2]": 35,
        "share[2]": 0.35,
    }


def test_classes_are_called_by_their_names():
    found = _found(torch.tensor([1, 1]), torch.zeros(2, 2), facts={"class_names": ("cat", "dog")})
    assert (found["size[dog]"], found["share[cat]"]) == (2, 0)


def test_a_binary_partition_has_two_classes():
    found = _found(torch.tensor([1, 1, 0]), torch.zeros(3), task="binary")
    assert (found["size[0]"], found["size[1]"]) == (1, 2)


def test_a_multilabel_sample_counts_for_each_of_its_labels():
    found = _found(torch.tensor([[1, 1], [1, 0]]), torch.zeros(2, 2), task="multilabel")
    assert (found["size"], found["share[0]"], found["share[1]"]) == (2, 1.0, 0.5)


def test_an_empty_partition_has_the_size_zero_and_no_shares():
    assert _found(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3)) == {"size": 0}


def test_an_unknown_partition_is_refused_with_those_that_exist():
    evaluation = evaluation_of({"test": torch.tensor([0])}, {"test": torch.zeros(1, 2)})
    with pytest.raises(PartitionError, match='no partition "forget"; there are test'):
        PartitionInfo().measure(evaluation)


def test_it_appears_once_beside_the_original_without_a_direction():
    info = PartitionInfo()
    assert (info.targets(), info.higher_is_better, info.ideal) == ({"original"}, None, None)
