"""NoMUS, GUM and CGUM against the notebooks' formulas, written out."""

from math import log

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from erasure.errors import DataError
from erasure.functional.composites import (
    corrected_global_unlearning_metric,
    global_unlearning_metric,
    indiscernibility,
    no_mus,
)

_SHARE = st.floats(0, 1)
_SECONDS = st.floats(0.01, 1e4)


def _factors(f_u, f_g, m_u, m_g, m_o, t_u, t_g):
    return {
        "utility": f_u,
        "gold_utility": f_g,
        "membership": m_u,
        "gold_membership": m_g,
        "original_membership": m_o,
        "elapsed_s": t_u,
        "gold_elapsed_s": t_g,
    }


@given(_SHARE, _SHARE, _SHARE)
def test_nomus_is_a_mean_of_accuracy_and_indiscernibility(accuracy, membership, weight):
    expected = weight * accuracy + (1 - weight) * (1 - abs(membership - 0.5) / 0.5)
    found = no_mus(accuracy, membership, utility_weight=weight)
    assert found == pytest.approx(expected, abs=1e-12) and 0 <= found <= 1
    assert indiscernibility(membership) == pytest.approx(indiscernibility(1 - membership), abs=1e-12)


@given(*[_SHARE] * 5, _SECONDS, _SECONDS, st.floats(0.1, 3), st.floats(0.1, 3))
def test_gum_is_the_notebooks_wherever_that_is_defined(f_u, f_g, m_u, m_g, m_o, t_u, t_g, alpha, beta):
    assume(m_o > m_g)
    found = global_unlearning_metric(**_factors(f_u, f_g, m_u, m_g, m_o, t_u, t_g), alpha=alpha, beta=beta)
    assert 0 <= found <= 1
    mu = min(m_u, m_o)
    mg = min((mu + m_o) / 2, m_g)
    E = 1 - ((mu - mg) / (max(m_o, mu) - mg)) ** 2
    U = 1 - abs(f_u - f_g)
    T = 1 - log(t_u + 1) / log(t_g + 1)
    if T >= 0:
        expected = (1 + alpha + beta) * U * E * T / (alpha * E * T + beta * U * T + U * E + 1e-6)
        assert found == pytest.approx(expected, abs=1e-6)
    else:
        assert found == 0


def test_gum_is_a_harmonic_mean_where_nothing_is_near_zero():
    found = global_unlearning_metric(**_factors(0.8, 1.0, 0.6, 0.5, 0.7, 9.0, 99.0))
    assert found == pytest.approx(3 / (1 / 0.8 + 1 / 0.75 + 1 / 0.5), abs=1e-5)


def test_gum_is_refused_where_the_attack_finds_nothing_in_the_original():
    for original in (0.5, 0.4):
        with pytest.raises(DataError, match="stronger attack"):
            global_unlearning_metric(**_factors(0.8, 0.8, 0.5, 0.5, original, 1.0, 9.0))


@given(*[_SHARE] * 5, _SECONDS, _SECONDS, st.integers(2, 100))
def test_cgum_is_the_notebooks(f_u, f_g, m_u, m_g, m_o, t_u, t_g, K):
    def clip(share):
        return max(0, min(1, share))

    saturated = min(m_u, m_o) if m_o >= m_g else max(m_u, m_o)
    U = clip((f_u - 1 / K) / (f_g - 1 / K + 1e-6))
    E = clip(1 - abs(saturated - m_g) / (abs(m_o - m_g) + 1e-6))
    T = clip(1 - log(t_u + 1) / (log(t_g + 1) + 1e-6))
    expected = 3 * U * E * T / (E * T + U * T + U * E + 1e-6)
    found = corrected_global_unlearning_metric(**_factors(f_u, f_g, m_u, m_g, m_o, t_u, t_g), n_classes=K)
    assert found == pytest.approx(expected, abs=1e-9) and 0 <= found <= 1


def test_gold_and_the_original_score_zero_and_instant_gold_one():
    gold = _factors(0.9, 0.9, 0.5, 0.5, 0.7, 50.0, 50.0)
    original = _factors(0.9, 0.9, 0.7, 0.5, 0.7, 0.0, 50.0)
    instant = _factors(0.9, 0.9, 0.5, 0.5, 0.7, 0.0, 50.0)
    for factors, expected in ((gold, 0.0), (original, 0.0), (instant, 1.0)):
        assert global_unlearning_metric(**factors) == pytest.approx(expected, abs=1e-5)
        assert corrected_global_unlearning_metric(**factors, n_classes=10) == pytest.approx(expected, abs=1e-4)
