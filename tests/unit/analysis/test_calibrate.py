"""Golds that play methods: the share of reports that accuse them, and what reports miss."""

import math

import numpy as np
import pytest
from test_judging import ORIGINAL, ROLES, VALUES, draw, model_rows, report

from erasure.analysis.calibration import calibrate
from erasure.analysis.findings import Finding
from erasure.errors import DataError


def pool(n_originals, n_golds, seed=0):
    return report(np.random.default_rng(seed), {}, n_originals, n_golds)


def test_retrained_models_are_rarely_accused_and_the_original_is_found():
    found = calibrate(pool(3, 12), ROLES, n_golds=9, n_draws=60)
    assert (found.n_originals, found.n_golds, found.n_pool, found.n_played) == (3, 9, 12, 1)
    assert found.accused <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60)
    assert found.n_found == 60
    assert sum(found.findings.values()) == 60
    low, high = found.interval
    assert 0 <= low <= found.accused <= high <= 1


def test_what_is_missed_is_said_in_the_unit_of_each_value():
    found = calibrate(pool(3, 12), ROLES, n_golds=9, n_draws=20)
    assert {(each.column.measure, each.column.partition) for each in found.missed} == set(VALUES)
    for each in found.missed:
        assert each.deviations == pytest.approx(
            2.3, abs=0.8
        )  # the table of designs: 2.4 for three originals with nine golds each
        assert each.shift == pytest.approx(each.deviations * each.gold_sd)


def test_more_methods_make_it_harder_to_find_anything():
    rows = pool(3, 12)
    one, many = (calibrate(rows, ROLES, n_golds=9, n_methods=n, n_draws=20) for n in (1, 15))
    assert many.n_played == 3  # as many golds as the pool has to spare
    assert sum(many.findings.values()) == 60
    for alone, together in zip(one.missed, many.missed, strict=True):
        assert together.shift > alone.shift


def test_a_design_that_can_accuse_nobody_accuses_nobody_and_misses_all():
    found = calibrate(pool(1, 6), ROLES, n_golds=3, n_draws=20)
    assert found.n_accused == found.n_found == 0
    assert set(found.findings) == {Finding.UNDECIDED}
    assert found.missed == []


def test_an_odd_pool_is_seen():
    """Golds of which some break down are told apart by a t-test, which takes them for normal."""
    generator = np.random.default_rng(3)
    rows = list(model_rows("original", "original", 0, draw(generator)))
    for number in range(21):
        values = draw(generator)
        if number in {3, 8, 14}:
            values = {key: value + 12 * VALUES[key][1] for key, value in values.items()}
        rows += model_rows("gold", "gold", 0, values, number=number)
    assert calibrate(rows, ROLES, n_golds=5, n_draws=200).accused > 0.06


def test_a_jury_needs_a_gold_to_spare():
    with pytest.raises(DataError, match="leaves none of 4"):
        calibrate(pool(2, 4), ROLES, n_golds=4)
    with pytest.raises(DataError, match="no further golds"):
        calibrate([row for row in pool(2, 4) if not row.number], ROLES, n_golds=2)


def test_originals_that_share_their_golds_each_have_one_to_play_the_method():
    generator = np.random.default_rng(7)
    rows = [row for seed in range(4) for row in model_rows("original", "original", seed, draw(generator, ORIGINAL))]
    for number in range(1, 20):
        rows += model_rows("gold", "gold", None, draw(generator), number=number)
    found = calibrate(rows, ROLES, n_golds=9, n_methods=2, n_draws=60)
    assert (found.n_originals, found.n_golds, found.n_pool, found.n_played) == (4, 9, 19, 2)
    assert sum(found.findings.values()) == 120
    assert found.accused <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60)
    assert found.n_found == 60
    shifts = [each.deviations for each in found.missed]
    assert 1.5 < min(shifts) < max(shifts) < 4  # 2.5 for five originals that share nine golds
    with pytest.raises(DataError, match="fewer than 4 of 19"):
        calibrate(rows, ROLES, n_golds=16)
