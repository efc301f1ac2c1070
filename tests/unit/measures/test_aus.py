import pytest
import torch
from measure_toys import accurate, evaluation_of, predicting

from erasure.errors import PartitionError, RequirementNotMet
from erasure.measures.aus import AUS

_LABELS = {
    "forget": torch.tensor([0, 1] * 5),
    "test": torch.tensor([0, 1] * 5),
    "retain": torch.tensor([0, 1] * 5),
}


def _score(right, right_original, setting="auto", labels=_LABELS, **options):
    logits = {name: accurate(labels[name], n) for name, n in right.items()}
    original = {name: accurate(labels[name], n) for name, n in right_original.items()}
    [value] = AUS(setting=setting).measure(evaluation_of(labels, logits, original=original, **options))
    return value.value


def test_random_forgetting_without_any_loss_gives_one():
    assert _score({"forget": 9, "test": 9}, {"test": 9}) == pytest.approx(1.0)


def test_random_forgetting_counts_the_distance_of_forget_from_test_accuracy():
    # (1 - (0.9 - 0.8)) / (1 + |1.0 - 0.8|)
    assert _score({"forget": 10, "test": 8}, {"test": 9}) == pytest.approx(0.9 / 1.2)
    assert _score({"forget": 6, "test": 8}, {"test": 9}) == pytest.approx(0.9 / 1.2)


def test_a_better_test_accuracy_exceeds_one():
    assert _score({"forget": 10, "test": 10}, {"test": 9}) == pytest.approx(1.1)


_CLASS_LABELS = {
    "forget": torch.tensor([2] * 10),
    "test": torch.tensor([0] * 4 + [1] * 4 + [2] * 2),
    "retain": torch.tensor([0, 1] * 5),
}


def _class_score(forget, test, original, setting="auto", labels=_CLASS_LABELS):
    evaluation = evaluation_of(
        labels,
        {"forget": predicting(forget, 3), "test": predicting(test, 3)},
        original={"test": predicting(original, 3)},
    )
    [value] = AUS(setting=setting).measure(evaluation)
    return value.value


def test_class_forgetting_without_any_loss_gives_one():
    rest = [0] * 4 + [1] * 4
    assert _class_score([0] * 10, [*rest, 0, 0], [*rest, 2, 2]) == 1.0


def test_class_forgetting_counts_forget_accuracy_and_the_test_accuracy_of_remaining_classes():
    rest = [0] * 4 + [1] * 4
    worse = [0] * 4 + [1] * 2 + [0] * 2
    # Remaining classes: 6 of 8 right, the original all; 3 of 10 forgotten samples are still recognised.
    found = _class_score([2] * 3 + [0] * 7, [*worse, 2, 2], [*rest, 0, 0])
    assert found == pytest.approx((1 - (1 - 6 / 8)) / (1 + 0.3))


def test_the_original_is_scored_low_after_class_forgetting():
    everything = [0] * 4 + [1] * 4 + [2] * 2
    assert _class_score([2] * 10, everything, everything) == 0.5


def test_the_random_form_can_be_asked_for_after_class_forgetting():
    everything = [0] * 4 + [1] * 4 + [2] * 2
    assert _class_score([2] * 10, everything, everything, setting="random") == 1.0


def test_a_class_of_which_samples_are_retained_is_not_forgotten_as_a_whole():
    labels = {**_CLASS_LABELS, "retain": torch.tensor([0, 1, 2] * 3)}
    everything = [0] * 4 + [1] * 4 + [2] * 2
    assert _class_score([2] * 10, everything, everything, labels=labels) == 1.0
    assert _class_score([2] * 10, everything, everything, labels=labels, setting="class") == 0.5


def test_the_retain_partition_is_looked_at_by_auto_alone():
    assert AUS().partitions() == ("forget", "test", "retain")
    assert AUS(setting="random").partitions() == AUS(setting="class").partitions() == ("forget", "test")


def test_a_test_partition_of_forgotten_classes_alone_is_refused():
    labels = {**_CLASS_LABELS, "test": torch.tensor([2, 2])}
    with pytest.raises(RequirementNotMet, match="classes that were not forgotten"):
        _class_score([0] * 10, [2, 2], [2, 2], labels=labels)


def test_an_empty_partition_is_refused():
    labels = {**_CLASS_LABELS, "retain": torch.zeros(0, dtype=torch.int64)}
    with pytest.raises(PartitionError, match='"retain" is empty'):
        _class_score([0] * 10, [0] * 10, [0] * 10, labels=labels)


def test_multilabel_tasks_have_the_random_form_only():
    y = torch.tensor([[1, 0], [0, 1]])
    labels = {"forget": y, "test": y, "retain": y}
    logits = dict.fromkeys(labels, 2.0 * y - 1.0)
    evaluation = evaluation_of(labels, logits, original=logits, task="multilabel")
    assert AUS().measure(evaluation)[0].value == 1.0
    with pytest.raises(RequirementNotMet, match='use "random"'):
        AUS(setting="class").measure(evaluation)


def test_the_original_must_be_there():
    with pytest.raises(RequirementNotMet, match="original"):
        AUS(setting="random").measure(evaluation_of(_LABELS, {n: accurate(y, 5) for n, y in _LABELS.items()}))
