"""ROC curves, their summaries and the confidence margin."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from erasure.errors import DataError
from erasure.functional.membership import (
    auc,
    auc_interval,
    balanced_accuracy,
    best_balanced_accuracy,
    confidence_margin,
    roc,
    thinned_roc,
    tpr_at_fpr,
    tpr_interval,
)

_SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=25).map(torch.tensor)


def _normal(n, shift=0.0, seed=0):
    return torch.as_tensor(np.random.default_rng(seed).normal(shift, 1.0, n))


def _labelled(members, nonmembers):
    return np.repeat([1, 0], [len(members), len(nonmembers)]), torch.cat([members, nonmembers]).numpy()


# The margin


def test_the_margin_is_the_log_odds_of_the_right_class():
    logits, labels = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)), torch.arange(50) % 4
    p = logits.double().softmax(1)[torch.arange(50), labels]
    torch.testing.assert_close(confidence_margin("classification", logits, labels), (p / (1 - p)).log())


def test_the_margin_of_an_answer_is_that_of_the_mean_probability_of_its_tokens():
    p = torch.tensor([[0.9, 0.4, 0.1], [0.5, 0.5, 0.7]], dtype=torch.float64)
    labels = torch.tensor([[3, 7, 2], [5, -100, -100]])
    log_p = torch.where(labels >= 0, p.log(), 0.0)
    statistics = torch.stack([log_p, *[torch.zeros_like(p)] * 3], dim=-1)
    mean = torch.tensor([0.036 ** (1 / 3), 0.5], dtype=torch.float64)
    torch.testing.assert_close(confidence_margin("generation", statistics, labels), (mean / (1 - mean)).log())
    sure = torch.zeros(1, 2, 4)
    assert confidence_margin("generation", sure, torch.tensor([[1, 2]])).isfinite().all()


def test_the_margin_of_a_binary_logit_is_that_of_two_classes():
    z, y = torch.tensor([[2.0], [-1.0], [0.5]]), torch.tensor([1, 1, 0])
    two = confidence_margin("classification", torch.cat([torch.zeros(3, 1), z], 1), y)
    torch.testing.assert_close(confidence_margin("binary", z, y), two)
    torch.testing.assert_close(confidence_margin("binary", z[:, 0], y), two)


def test_the_margin_of_several_labels_is_the_log_odds_of_all_of_them():
    z, y = (
        torch.randn(40, 3, generator=torch.Generator().manual_seed(1)),
        torch.randint(2, (40, 3), generator=torch.Generator().manual_seed(2)),
    )
    p = torch.where(y > 0, z.double().sigmoid(), 1 - z.double().sigmoid()).prod(1)
    torch.testing.assert_close(confidence_margin("multilabel", z, y), (p / (1 - p)).log())


@pytest.mark.parametrize(
    ("task", "logits", "labels", "expected"),
    [
        ("classification", [[500.0, 0.0, 0.0]], [0], 500 - math.log(2)),
        ("classification", [[-500.0, 0.0, 0.0]], [0], -500 - math.log(2)),
        ("binary", [[900.0]], [0], -900.0),
        ("multilabel", [[900.0, 900.0]], [[1, 1]], 900 - math.log(2)),
        ("multilabel", [[-900.0, 900.0]], [[1, 1]], -900.0),
    ],
)
def test_the_margin_keeps_its_resolution_where_probabilities_round(task, logits, labels, expected):
    assert float(confidence_margin(task, torch.tensor(logits), torch.tensor(labels))) == pytest.approx(expected)


def test_one_class_has_no_margin():
    with pytest.raises(DataError, match="one class only"):
        confidence_margin("classification", torch.zeros(3, 1), torch.zeros(3, dtype=torch.int64))


# The curve


@given(_SCORES, _SCORES)
def test_the_curve_and_its_area_are_scikit_learns(members, nonmembers):
    labels, scores = _labelled(members, nonmembers)
    fpr, tpr = roc(members, nonmembers)
    expected = metrics.roc_curve(labels, scores, drop_intermediate=False)
    np.testing.assert_allclose(fpr, expected[0])
    np.testing.assert_allclose(tpr, expected[1])
    assert auc(members, nonmembers) == pytest.approx(metrics.roc_auc_score(labels, scores))


@given(_SCORES, _SCORES, st.sampled_from([0.0, 0.05, 0.2, 0.5, 1.0]))
def test_summaries_are_those_of_a_loop_over_thresholds(members, nonmembers, target):
    rates = []
    for threshold in [math.inf, *torch.cat([members, nonmembers]).tolist()]:
        false, true = (float((side >= threshold).double().mean()) for side in (nonmembers, members))
        rates.append((false, true))
    assert tpr_at_fpr(roc(members, nonmembers), target) == pytest.approx(max(t for f, t in rates if f <= target))
    assert best_balanced_accuracy(members, nonmembers) == pytest.approx(max((t + 1 - f) / 2 for f, t in rates))


def test_scores_of_the_same_value_give_chance():
    same = torch.zeros(7)
    assert auc(same, same) == best_balanced_accuracy(same, same) == balanced_accuracy(same, same) == 0.5
    assert tpr_at_fpr(roc(same, same), 0.5) == 0.0


def test_the_rate_at_a_bound_is_never_read_at_a_threshold_above_it():
    # The nearest false positive rate to 0.1 is 0.125, where the true positive rate is 1.
    members, nonmembers = torch.tensor([10.0, 5.0]), torch.cat([torch.tensor([6.0]), torch.zeros(7)])
    assert tpr_at_fpr(roc(members, nonmembers), 0.1) == 0.5
    assert tpr_at_fpr(roc(members, nonmembers), 0.125) == 1.0


def test_too_few_nonmembers_for_a_rate_leave_the_rate_without_false_positives():
    members, nonmembers = _normal(100, 1.0), _normal(50, seed=1)
    without = float((members > nonmembers.max()).double().mean())
    assert tpr_at_fpr(roc(members, nonmembers), 0.001) == tpr_at_fpr(roc(members, nonmembers), 0.0) == pytest.approx(without)


@pytest.mark.parametrize("distance", [0.0, 0.5, 1.5])
def test_gaussians_of_known_distance_have_the_known_area(distance):
    expected = stats.norm.cdf(distance / math.sqrt(2))
    members, nonmembers = _normal(20000, distance), _normal(20000, seed=1)
    assert auc(members, nonmembers) == pytest.approx(expected, abs=0.008)
    assert balanced_accuracy(members, nonmembers, distance / 2) == pytest.approx(stats.norm.cdf(distance / 2), abs=0.008)


def test_orientation_and_order_are_as_they_should_be():
    members, nonmembers = _normal(30, 1.0), _normal(40, seed=1)
    assert auc(-members, -nonmembers) == pytest.approx(1 - auc(members, nonmembers))
    assert auc(members.flip(0), nonmembers.flip(0)) == auc(members, nonmembers)
    assert auc(members.exp(), nonmembers.exp()) == auc(members, nonmembers)


@pytest.mark.parametrize("sides", [([], [1.0]), ([1.0], []), ([math.nan], [1.0])])
def test_what_cannot_be_ranked_is_refused(sides):
    with pytest.raises(DataError, match=r"members"):
        auc(*map(torch.tensor, sides))


def test_infinite_scores_are_ranked():
    assert auc(torch.tensor([math.inf, 0.0]), torch.tensor([-math.inf, 0.0])) == 0.875


# Intervals


def _delong_by_loop(members, nonmembers):
    """Wald variance of the area from the two-sample U-statistic, pair by pair."""
    kernel = np.array([[1.0 if a > b else 0.5 if a == b else 0.0 for b in nonmembers.tolist()] for a in members.tolist()])
    return kernel.mean(1).var(ddof=1) / len(members) + kernel.mean(0).var(ddof=1) / len(nonmembers)


def test_the_interval_of_the_area_is_delongs_on_the_logit_scale():
    members, nonmembers = _normal(40, 0.8).round(decimals=1), _normal(60, seed=1).round(decimals=1)
    area = auc(members, nonmembers)
    half = stats.norm.ppf(0.975) * math.sqrt(_delong_by_loop(members, nonmembers)) / (area * (1 - area))
    logit = math.log(area / (1 - area))
    expected = [1 / (1 + math.exp(-(logit + side * half))) for side in (-1, 1)]
    assert auc_interval(members, nonmembers) == pytest.approx(expected)


@pytest.mark.parametrize(("distance", "m", "n"), [(0.0, 30, 30), (0.0, 12, 200), (1.0, 40, 40), (2.5, 25, 60)])
def test_the_interval_of_the_area_covers_the_true_one(distance, m, n):
    truth = stats.norm.cdf(distance / math.sqrt(2))
    generator = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        sides = torch.as_tensor(generator.normal(distance, 1, m)), torch.as_tensor(generator.normal(0, 1, n))
        low, high = auc_interval(*sides)
        hits += low <= truth <= high
    assert hits / 400 > 0.92


@given(_SCORES, _SCORES)
def test_the_interval_holds_the_area(members, nonmembers):
    low, high = auc_interval(members, nonmembers)
    assert 0 <= low <= auc(members, nonmembers) + 1e-12
    assert auc(members, nonmembers) - 1e-12 <= high <= 1


def test_perfect_separation_of_few_samples_is_no_certainty():
    low, high = auc_interval(torch.tensor([3.0, 4.0]), torch.tensor([1.0, 2.0]))
    assert high == 1.0
    assert low == pytest.approx(stats.binomtest(2, 2).proportion_ci().low)


def test_the_interval_of_a_rate_is_clopper_and_pearsons():
    expected = stats.binomtest(7, 40).proportion_ci(method="exact")
    assert tpr_interval(7 / 40, 40) == pytest.approx((expected.low, expected.high))


# Thinning


def test_a_thinned_curve_is_a_part_of_the_curve_with_its_low_end():
    members, nonmembers = _normal(3000, 1.0), _normal(5000, seed=1)
    points = set(zip(*(side.tolist() for side in roc(members, nonmembers)), strict=True))
    fpr, tpr = thinned_roc(roc(members, nonmembers), len(nonmembers))
    assert len(fpr) <= 200
    assert set(zip(fpr, tpr, strict=True)) <= points
    assert (fpr[0], fpr[-1], tpr[-1]) == (0.0, 1.0, 1.0)
    assert sum(0 < value <= 0.01 for value in fpr) >= 20
    for low, high in itertools.pairwise(fpr):
        assert high > low
    for target in (0.001, 0.01, 0.1):
        at = max(value for value in fpr if value <= target)
        assert tpr[fpr.index(at)] == pytest.approx(tpr_at_fpr(roc(members, nonmembers), at))
