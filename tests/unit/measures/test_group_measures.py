from dataclasses import replace

import numpy as np
import pytest
import torch
from measure_toys import evaluation_of, predicting
from scipy.stats import binomtest
from sklearn.metrics import recall_score

from erasure.errors import RequirementNotMet
from erasure.measures.groups import ClassAccuracy, DemographicParity, EqualisedOdds, GroupAccuracy
from erasure.training.predictor import ModelInput

_RANDOM = np.random.default_rng(0)
_LABELS = torch.from_numpy(_RANDOM.integers(0, 2, 80))
_PREDICTED = torch.where(torch.from_numpy(_RANDOM.random(80) < 0.7), _LABELS, 1 - _LABELS)
_GROUPS = torch.from_numpy(_RANDOM.integers(0, 3, 80))


def _values(measure, labels=_LABELS, predicted=_PREDICTED, z=_GROUPS, n_classes=2, **options):
    evaluation = evaluation_of({"test": labels}, {"test": predicting(predicted, n_classes)}, **options)
    return {value.name or measure.title: value for value in measure.measure(replace(evaluation, z=z))}


def _numbers(*args, **options):
    return {name: value.value for name, value in _values(*args, **options).items()}


def test_accuracies_of_classes_are_their_recalls():
    labels = torch.tensor([0] * 5 + [1] * 10 + [2] * 3)
    predicted = torch.tensor([0] * 5 + [1] * 4 + [0] * 6 + [2, 1, 1])
    found = _values(ClassAccuracy(), labels, predicted, n_classes=4, facts={"class_names": ("a", "b", "c", "d")})
    recalls = recall_score(labels, predicted, average=None)
    assert [found[f"accuracy[{name}]"].value for name in "abc"] == pytest.approx(recalls)
    assert "accuracy[d]" not in found
    assert found["worst class accuracy"].value == pytest.approx(recalls.min())
    assert found["class accuracy gap"].value == pytest.approx(recalls.max() - recalls.min())
    assert found["class accuracy variance"].value == pytest.approx(recalls.var())
    interval = binomtest(4, 10).proportion_ci(method="exact")
    assert (found["accuracy[b]"].low, found["accuracy[b]"].high) == pytest.approx((interval.low, interval.high))


def test_labels_of_a_multilabel_task_count_as_classes():
    labels, logits = torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1.0, 1.0], [-1.0, 1.0]])
    values = ClassAccuracy().measure(evaluation_of({"test": labels}, {"test": logits}, task="multilabel"))
    assert [value.value for value in values[:2]] == [0.5, 0.5]


def test_accuracies_of_groups_are_those_of_their_samples():
    found = _numbers(GroupAccuracy(), facts={"z_names": ("old", "young")})
    right = (_LABELS == _PREDICTED).numpy()
    means = [right[_GROUPS.numpy() == g].mean() for g in range(3)]
    names = ("old", "young", "2")
    assert [found[f"accuracy[z={name}]"] for name in names] == pytest.approx(means)
    assert sum(found[f"n[z={name}]"] for name in names) == 80
    assert found["worst group accuracy"] == pytest.approx(min(means))
    assert found["group accuracy gap"] == pytest.approx(max(means) - min(means))


def test_groups_follow_the_ids_not_the_rows_of_a_partition():
    labels = {"train": torch.zeros(3, dtype=torch.int64), "test": torch.tensor([0, 0, 0, 0])}
    logits = {"train": predicting([0] * 3, 2), "test": predicting([0, 0, 1, 1], 2)}
    z = torch.tensor([9, 9, 9, 1, 1, 2, 2])
    values = GroupAccuracy().measure(replace(evaluation_of(labels, logits), z=z))
    assert [(v.name, v.value) for v in values[:4]] == [
        ("accuracy[z=1]", 1.0),
        ("n[z=1]", 2),
        ("accuracy[z=2]", 0.0),
        ("n[z=2]", 2),
    ]


def test_a_column_is_chosen_from_several():
    z = torch.stack([torch.zeros(80, dtype=torch.int64), _GROUPS], dim=1)
    first, second = _numbers(GroupAccuracy()), _numbers(GroupAccuracy(column=1), z=z)
    assert list(second.values()) == list(first.values()) and not set(first) & set(second)
    assert list(_numbers(DemographicParity(column=1), z=z)) == ["DemographicParity[z1]"]


def _rates(hits, among):
    return [hits[among & (_GROUPS.numpy() == g)].mean() for g in range(3)]


def test_fairness_gaps_are_the_definitions():
    hits, labels = _PREDICTED.numpy() == 1, _LABELS.numpy()
    everyone = np.ones(80, dtype=bool)
    assert _numbers(DemographicParity()) == {"DemographicParity": pytest.approx(np.ptp(_rates(hits, everyone)))}
    tpr, fpr = np.ptp(_rates(hits, labels == 1)), np.ptp(_rates(hits, labels == 0))
    expected = {"EqualisedOdds": max(tpr, fpr), "true positive rate gap": tpr, "false positive rate gap": fpr}
    assert _numbers(EqualisedOdds()) == pytest.approx(expected)
    # The other class as the good one: both gaps change places.
    other = _numbers(EqualisedOdds(positive=0))
    assert (other["true positive rate gap[0]"], other["false positive rate gap[0]"]) == pytest.approx((fpr, tpr))


def test_a_perfect_model_has_equal_odds_and_parity_only_if_the_labels_have():
    found = _numbers(EqualisedOdds(), predicted=_LABELS)
    assert set(found.values()) == {0.0}
    parity = _numbers(DemographicParity(), labels=_GROUPS % 2, predicted=_GROUPS % 2, z=_GROUPS)
    assert parity == {"DemographicParity": 1.0}


def test_the_good_one_of_several_classes_must_be_named():
    data = ModelInput((3,), 4)
    for measure in (DemographicParity, EqualisedOdds):
        assert "name it" in measure().unsupported_reason(data)
        assert measure(positive="b").unsupported_reason(ModelInput((3,), 4, class_names=tuple("abcd"))) is None
        assert 'there is no class "b"; classes are 0, 1' in measure(positive="b").unsupported_reason(data)
        assert measure(positive=1).unsupported_reason(ModelInput((3,), 2, "multilabel")) is not None


@pytest.mark.parametrize("measure", [GroupAccuracy(), DemographicParity(), EqualisedOdds()])
def test_missing_groups_are_refused_with_the_reason(measure):
    with pytest.raises(RequirementNotMet, match="no groups"):
        _values(measure, z=None)
    with pytest.raises(RequirementNotMet, match="one group"):
        _values(measure, z=torch.zeros(80))
    with pytest.raises(RequirementNotMet, match="no column 2"):
        _values(measure.replace(column=2))


def test_a_group_without_a_rate_and_a_single_class_are_refused():
    z = torch.where(_LABELS == 1, 0, _GROUPS)
    with pytest.raises(RequirementNotMet, match='group "1" has no sample with the class 1'):
        _values(EqualisedOdds(), z=z)
    with pytest.raises(RequirementNotMet, match="one class"):
        _values(ClassAccuracy(), labels=torch.ones(80, dtype=torch.int64))
