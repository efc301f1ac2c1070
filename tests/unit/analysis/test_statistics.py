"""Intervals, tests and ranks, against scipy, brute force and published tables."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from erasure.analysis.statistics import (
    RankTest,
    bootstrap_interval,
    cluster_bootstrap,
    critical_difference,
    holm,
    mean_ranks,
    paired_test,
    rank_test,
    student_interval,
    variance_components,
    wilcoxon_p,
)
from erasure.errors import DataError


def draws(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def test_the_student_interval_is_scipys():
    values = draws(0, 7)
    found = student_interval(values)
    low, high = stats.t.interval(0.95, 6, loc=values.mean(), scale=stats.sem(values))
    assert (found.low, found.high, found.n) == (pytest.approx(low), pytest.approx(high), 7)


def test_one_value_has_no_interval():
    assert student_interval([1.0]) is None
    assert bootstrap_interval([1.0]) is None
    assert cluster_bootstrap({0: [1.0, 2.0, 3.0]}) is None


def test_the_bootstrap_interval_is_scipys_within_its_own_noise():
    values = draws(1, 40)
    found = bootstrap_interval(values, n_resamples=20_000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1))
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.02)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.02)


def test_the_bootstrap_is_the_same_for_the_same_seed_and_another_for_another():
    values = list(draws(2, 12))
    assert bootstrap_interval(values, seed=3) == bootstrap_interval(values, seed=3)
    assert bootstrap_interval(values, seed=3) != bootstrap_interval(values, seed=4)


def test_repetitions_of_one_original_do_not_narrow_the_interval():
    originals = draws(3, 8)
    clusters = {i: [mean + 1e-3 * noise for noise in draws(i, 50)] for i, mean in enumerate(originals)}
    pooled = bootstrap_interval([value for values in clusters.values() for value in values])
    apart = cluster_bootstrap(clusters)
    assert apart.n == 8
    assert apart.high - apart.low > 4 * (pooled.high - pooled.low)


def test_the_cluster_bootstrap_covers_the_true_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(5)
    hits = 0
    for seed in range(200):
        clusters = {i: mean + 0.5 * generator.normal(size=4) for i, mean in enumerate(generator.normal(size=15))}
        found = cluster_bootstrap(clusters, n_resamples=600, seed=seed)
        hits += found.low <= 0 <= found.high
    assert 0.88 <= hits / 200 <= 0.99


def test_clusters_of_unequal_size_count_the_same():
    found = cluster_bootstrap({"a": [1.0] * 9, "b": [3.0]})
    assert found.mean == 2.0
    assert (found.low, found.high) == (1.0, 3.0)


def test_bootstraps_of_many_different_sizes_and_larger_than_what_is_kept_are_the_same(monkeypatch):
    clusters = {size: [float(size)] * size for size in range(1, 60)}  # the least common multiple of the sizes has 25 digits
    kept = cluster_bootstrap(clusters, n_resamples=200)
    assert 20 < kept.low < kept.mean < kept.high < 40
    monkeypatch.setattr("erasure.analysis.statistics._MAX_KEPT", 0)
    assert cluster_bootstrap(clusters, n_resamples=200) == kept


def test_variance_components_are_those_that_the_values_were_made_with():
    generator = np.random.default_rng(7)
    shifts = 2.0 * generator.normal(size=600)
    found = variance_components({i: shift + 0.5 * generator.normal(size=10) for i, shift in enumerate(shifts)})
    assert found.between == pytest.approx(shifts.var(ddof=1), rel=0.03)
    assert found.within == pytest.approx(0.25, rel=0.1)
    assert (found.n_clusters, found.n) == (600, 6000)


def test_variance_components_of_equal_groups_are_the_mean_squares_of_the_analysis_of_variance():
    table = draws(8, 5, 6)
    found = variance_components(dict(enumerate(table)))
    f = stats.f_oneway(*table).statistic
    within = table.var(axis=1, ddof=1).mean()
    assert found.within == pytest.approx(within)
    assert found.between == pytest.approx(max(0.0, (f - 1) * within / 6))


def test_variance_components_say_what_cannot_be_known():
    assert variance_components({0: [1.0, 2.0]}).between is None
    single = variance_components({0: [1.0], 1: [3.0]})
    assert (single.within, single.between) == (None, 2.0)


def test_the_paired_t_test_is_scipys():
    a, b = draws(9, 2, 11)
    found, theirs = paired_test(a, b), stats.ttest_rel(a, b)
    interval = theirs.confidence_interval()
    assert found.t_p == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    assert found.p == found.t_p


@pytest.mark.parametrize("n", [3, 8, 25])
def test_the_signed_rank_test_without_ties_is_scipys(n):
    differences = draws(n, n) + 0.3
    assert wilcoxon_p(differences) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue)


def test_the_signed_rank_test_with_ties_counts_every_assignment_of_signs():
    differences = np.array([1.0, 1.0, -1.0, 2.0, 2.0, 3.0, -0.5])
    ranks = stats.rankdata(abs(differences))
    statistic = min(ranks[differences > 0].sum(), ranks[differences < 0].sum())
    sums = [np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=7)]
    wanted = min(1.0, 2 * np.mean([each <= statistic for each in sums]))
    assert wilcoxon_p([*differences, 0.0]) == pytest.approx(wanted)


def test_the_signed_rank_test_of_many_differences_is_scipys_approximation():
    differences = np.round(draws(10, 150) + 0.2, 1)
    kept = differences[differences != 0]
    assert wilcoxon_p(differences) == pytest.approx(stats.wilcoxon(kept, method="asymptotic", correction=True).pvalue)


def test_equal_methods_do_not_differ():
    found = paired_test([0.5, 0.6, 0.7], [0.5, 0.6, 0.7])
    assert (found.mean, found.p, found.wilcoxon_p) == (0.0, 1.0, 1.0)


def test_rounding_is_no_difference():
    assert paired_test([0.1 + 0.2, 0.7, 0.9], [0.3, 0.7, 0.9]).p == 1.0


def test_equal_differences_have_no_spread_to_test_with():
    found = paired_test([0.5, 0.6, 0.7], [0.25, 0.35, 0.45])
    assert found.t_p is None
    assert found.p == found.wilcoxon_p == 0.25


def test_a_single_pair_is_no_test():
    found = paired_test([1.0], [0.0])
    assert (found.t_p, found.low, found.p) == (None, None, 1.0)


def test_the_paired_t_test_holds_its_level():
    generator = np.random.default_rng(11)
    hits = sum(paired_test(*generator.normal(size=(2, 5))).p < 0.05 for _ in range(1000))
    assert 30 <= hits <= 75


def test_holm_rejects_what_the_procedure_rejects():
    p_values = [0.001, 0.2, 0.012, 0.04, 0.013]
    adjusted = holm(p_values)
    ordered = sorted(p_values)
    n_rejected = next((i for i, p in enumerate(ordered) if p > 0.05 / (5 - i)), 5)
    assert [p <= 0.05 for p in adjusted] == [p in ordered[:n_rejected] for p in p_values]
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1.0, 1.0]


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (5, 2.728), (10, 3.164)])
def test_critical_differences_are_those_of_the_published_table(k, q):
    assert critical_difference(k, 14) == pytest.approx(q * math.sqrt(k * (k + 1) / (6 * 14)), rel=1e-3)


@pytest.mark.parametrize(("k", "level"), [(2, 0.95), (40, 0.95), (7, 0.5), (600, 0.999)])
def test_critical_differences_have_scipys_quantile_of_the_range(k, level):
    q = stats.studentized_range.ppf(level, k, math.inf) / math.sqrt(2)
    assert critical_difference(k, 14, level=level) == pytest.approx(q * math.sqrt(k * (k + 1) / (6 * 14)), rel=1e-6)


@given(st.lists(st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 2.0, math.inf]), min_size=1))
def test_equal_numbers_share_their_mean_rank(values):
    assert mean_ranks(np.array(values)).tolist() == stats.rankdata(values).tolist()


def test_friedmans_test_is_scipys_with_ties_too():
    scores = np.round(draws(12, 20, 4), 1) + np.array([0.0, 0.3, 0.3, 0.6])
    found, theirs = rank_test(scores), stats.friedmanchisquare(*scores.T)
    assert found.statistic == pytest.approx(theirs.statistic)
    assert found.p == pytest.approx(theirs.pvalue)
    assert sum(found.ranks) == pytest.approx(10)


def test_methods_that_always_tie_have_equal_ranks_and_no_difference():
    found = rank_test([[1.0, 1.0, 1.0]] * 4)
    assert (found.ranks, found.p) == ((2.0, 2.0, 2.0), 1.0)
    assert found.groups() == [(0, 1, 2)]


def test_a_failure_is_the_last_rank():
    assert rank_test([[0.1, math.inf], [0.2, math.inf]]).ranks == (1.0, 2.0)


def test_groups_join_what_is_closer_than_the_critical_difference():
    found = RankTest((1.0, 1.8, 2.6, 4.0), 30, 50.0, 1e-9, 1.0)
    assert found.groups() == [(0, 1), (1, 2)]


def test_nothing_is_told_apart_where_friedmans_test_sees_no_difference():
    far_apart = RankTest((2.0, 1.0, 3.0), 4, 3.0, 0.2, critical_difference=0.5)
    assert far_apart.groups() == [(1, 0, 2)]
    assert dataclasses.replace(far_apart, p=0.01).groups() == []


@pytest.mark.parametrize(
    "call",
    [
        lambda: paired_test([1.0], [1.0, 2.0]),
        lambda: paired_test([], []),
        lambda: student_interval([1.0, math.nan]),
        lambda: cluster_bootstrap({0: [], 1: [1.0]}),
        lambda: variance_components({}),
        lambda: holm([1.5]),
        lambda: rank_test([[1.0], [2.0]]),
        lambda: rank_test([[1.0, 2.0], [2.0]]),
        lambda: rank_test([[1.0, math.nan]]),
        lambda: critical_difference(1, 3),
    ],
)
def test_what_cannot_be_computed_is_refused(call):
    with pytest.raises(DataError):
        call()
