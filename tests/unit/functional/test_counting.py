"""Confusion, group means, agreement beyond chance, samples among others, intervals and relative weight distances."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics

from erasure.errors import DataError
from erasure.functional.confusion import confusion_matrix, macro_f1
from erasure.functional.counts import are_among
from erasure.functional.groups import cohens_kappa, group_means
from erasure.functional.weights import relative_distance
from erasure.intervals import clopper_pearson, student_quantile, student_t

_PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(_PAIRS)
def test_confusion_f1_and_kappa_are_scikit_learns(pairs):
    labels, predictions = (torch.tensor(side) for side in zip(*pairs, strict=True))
    counts = confusion_matrix(labels, predictions, 4)
    assert counts.tolist() == metrics.confusion_matrix(labels, predictions, labels=range(4)).tolist()
    found = macro_f1(counts.diagonal(), counts.sum(0), counts.sum(1))
    assert found == pytest.approx(metrics.f1_score(labels, predictions, average="macro", zero_division=0))
    one_class = len({*labels.tolist(), *predictions.tolist()}) == 1
    if one_class:
        with pytest.raises(DataError, match="the same class"):
            cohens_kappa(counts)
    else:
        assert cohens_kappa(counts) == pytest.approx(metrics.cohen_kappa_score(labels, predictions))


def test_f1_without_any_class_is_zero():
    assert macro_f1(*[torch.zeros(3)] * 3) == 0.0


@given(st.lists(st.tuples(st.integers(-2, 2), st.floats(-1, 1)), min_size=1, max_size=30))
def test_group_means_are_those_of_a_loop(pairs):
    codes, values = (np.array(side) for side in zip(*pairs, strict=True))
    found, means, counts = group_means(torch.tensor(values), torch.tensor(codes))
    assert found.tolist() == sorted(set(codes.tolist()))
    for code, mean, count in zip(found.tolist(), means.tolist(), counts.tolist(), strict=True):
        assert mean == pytest.approx(values[codes == code].mean()) and count == (codes == code).sum()


@given(st.integers(1, 200), st.data())
def test_the_exact_interval_is_scipys(n, data):
    hits = data.draw(st.integers(0, n))
    low, high = clopper_pearson(hits, n)
    expected = stats.binomtest(hits, n).proportion_ci(0.95, method="exact")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert low <= hits / n <= high


def test_a_share_of_nothing_has_no_interval():
    for hits, n in ((0, 0), (3, 2), (-1, 5)):
        with pytest.raises(DataError):
            clopper_pearson(hits, n)


def test_the_interval_of_a_mean_is_scipys():
    values = [0.3, 0.5, 0.9, 0.2]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert student_t(values) == pytest.approx(expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert student_t([1.0]) is None and student_t([2.0, 2.0]) == (2.0, 2.0)


def test_quantiles_that_are_written_down_are_scipys():
    for degrees in (*range(1, 33), 3.0, 2.5):  # older SciPy knows nine digits
        assert student_quantile(degrees, 0.975) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)


def test_relative_distance_is_a_quotient_of_norms_over_all_tensors():
    generator = torch.Generator().manual_seed(0)
    a, b = ({"u": torch.randn(3, 2, generator=generator), "v": torch.randn(4, generator=generator)} for _ in range(2))
    flat = [torch.cat([each[name].flatten() for name in ("u", "v")]).double().numpy() for each in (a, b)]
    assert relative_distance(a, b) == pytest.approx(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]))
    zero = {"u": torch.zeros(2)}
    assert relative_distance(zero, zero) == 0.0
    assert relative_distance({"u": torch.ones(2)}, zero) is None


@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 5), (5, 0), (1, 1), (40, 7), (7, 40), (200, 200)])
def test_samples_are_found_among_others_as_a_search_finds_them(n, m):
    generator = torch.Generator().manual_seed(n + m)
    ids, others = (torch.randint(0, 90, (size,), generator=generator) for size in (n, m))
    assert torch.equal(are_among(ids, others), torch.isin(ids, others))
