"""Limits, ties, chances and what choosing the winner hides."""

import math

import numpy as np
import pytest

from erasure.analysis.choice import choose
from erasure.analysis.equivalence import limits, telling_rate
from erasure.errors import DataError


def test_limits_are_students_one_sided():
    found = limits([0.0, 0.1, 0.2, 0.3])
    assert found.mean == pytest.approx(0.15)
    assert (found.high - found.low) / 2 == pytest.approx(2.3533634 * 0.1290994 / 2, rel=1e-6)
    assert limits([0.1]) is None
    assert limits([0.1, math.inf]) is None
    assert limits([0.01, 0.02, 0.0, 0.01]).is_within(0.2)
    assert not limits([0.19, 0.21, 0.2]).is_within(0.2)
    assert limits([0.01, 0.0, 0.01]).is_above(-0.02)


def test_equivalence_is_claimed_wrongly_in_at_most_five_percent():
    generator = np.random.default_rng(0)
    claims = sum(limits(generator.normal(0.2, 0.1, 4).tolist()).is_within(0.2) for _ in range(2000))
    assert claims / 2000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_the_telling_rate_is_that_of_pairs():
    generator = np.random.default_rng(0)
    pairs = generator.normal(2, 1, 100_000) > generator.normal(0, 1, 100_000)
    assert telling_rate(2) == pytest.approx(pairs.mean(), abs=0.005)
    assert telling_rate(-2) == telling_rate(2)
    assert telling_rate(0) == 0.5


def test_one_or_two_originals_name_nobody():
    assert choose(np.zeros((3, 2))) is None
    assert choose(np.zeros((0, 5))) is None
    with pytest.raises(DataError, match="finite"):
        choose(np.full((2, 3), np.inf))


def test_the_nearest_method_and_its_ties():
    generator = np.random.default_rng(0)
    truth = np.array([1.0, 0.0, 0.02, 2.0])
    table = truth[:, None] + 0.05 * generator.normal(size=(4, 5)) + generator.normal(size=5)
    found = choose(table)
    assert set(found.ties) == {1, 2}
    assert found.best == found.ties[0]
    assert sum(found.chances) == pytest.approx(1)
    assert found.chances[1] + found.chances[2] == pytest.approx(1)
    assert found.cross_fitted >= found.distance * 0.99


def test_ties_of_disjoint_sets_of_originals_agree():
    generator = np.random.default_rng(1)
    contradictions = 0
    for _ in range(300):
        truth = 0.5 * generator.normal(size=8)
        first, second = (choose(truth[:, None] + 0.5 * generator.normal(size=(8, 5))) for _ in range(2))
        contradictions += first.best not in second.ties or second.best not in first.ties
    assert contradictions / 300 < 0.2


def test_chances_hold_in_the_long_run():
    generator = np.random.default_rng(2)
    said, true = [], []
    for _ in range(300):
        truth = 0.3 * generator.normal(size=4)
        found = choose(truth[:, None] + 0.3 * generator.normal(size=(4, 6)), draws=400)
        said += found.chances
        true += (np.arange(4) == truth.argmin()).tolist()
    likely = np.array(said) > 0.7
    assert np.array(true)[likely].mean() == pytest.approx(np.array(said)[likely].mean(), abs=0.1)


def test_cross_fitting_takes_out_what_the_choice_flatters():
    generator = np.random.default_rng(3)
    shown, fitted = [], []
    for _ in range(200):
        found = choose(generator.normal(size=(30, 3)))  # all are equal: exp(0) on average
        shown.append(math.log(found.distance))
        fitted.append(math.log(found.cross_fitted))
    assert np.mean(shown) < -0.8
    assert np.mean(fitted) == pytest.approx(0, abs=0.15)


def test_the_nearest_of_all_is_among_the_ties_of_a_few():
    generator, missing, n = np.random.default_rng(3), 0, 400
    truth = np.array([0.0, 0.05, 0.1, 0.1, 0.2, 0.3, 0.5])
    for _ in range(n):
        found = choose(truth[:, None] + 0.3 * generator.normal(size=(7, 5)) + generator.normal(size=5), draws=1)
        missing += 0 not in found.ties
        assert found.farther[found.best] == 1
        assert all((found.farther[i] > 0.02) == (i in found.ties) for i in range(7))
    assert missing / n <= 0.08
