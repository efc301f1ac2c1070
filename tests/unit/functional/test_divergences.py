import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr

from erasure.functional.divergences import (
    hellinger,
    jensen_shannon,
    kullback_leibler,
    log_probabilities,
    total_variation,
)
from erasure.functional.losses import probabilities

_ALL = (kullback_leibler, jensen_shannon, total_variation, hellinger)
_LOGITS = st.lists(st.floats(-30, 30), min_size=4, max_size=4)


def _pair(p, q):
    return log_probabilities("classification", torch.tensor([p])), log_probabilities("classification", torch.tensor([q]))


def _middle(p, q):
    # scipy's jensenshannon takes the root of a rounding error where both are equal.
    return (rel_entr(p, (p + q) / 2).sum() + rel_entr(q, (p + q) / 2).sum()) / 2


def test_the_jensen_shannon_divergence_is_the_square_of_scipys_distance():
    log_p, log_q = _pair([1.0, -2.0, 0.5, 3.0], [0.0, 2.0, -1.0, 1.0])
    expected = jensenshannon(log_p.exp().numpy()[0], log_q.exp().numpy()[0]) ** 2
    assert float(jensen_shannon(log_p, log_q)) == pytest.approx(expected)


@given(_LOGITS, _LOGITS)
def test_each_divergence_is_scipys(first, second):
    log_p, log_q = _pair(first, second)
    p, q = log_p.exp().numpy()[0], log_q.exp().numpy()[0]
    assert float(kullback_leibler(log_p, log_q)) == pytest.approx(rel_entr(p, q).sum(), abs=1e-9)
    assert float(jensen_shannon(log_p, log_q)) == pytest.approx(_middle(p, q), abs=1e-9)
    assert float(total_variation(log_p, log_q)) == pytest.approx(np.abs(p - q).sum() / 2, abs=1e-12)
    assert float(hellinger(log_p, log_q)) == pytest.approx(np.linalg.norm(np.sqrt(p) - np.sqrt(q)) / math.sqrt(2), abs=1e-12)


@given(_LOGITS, _LOGITS)
def test_bounds_symmetry_and_identity(first, second):
    log_p, log_q = _pair(first, second)
    for divergence in _ALL:
        assert float(divergence(log_p, log_p)) == pytest.approx(0, abs=1e-12)
        assert float(divergence(log_p, log_q)) >= 0
    for divergence, largest in ((jensen_shannon, math.log(2)), (total_variation, 1.0), (hellinger, 1.0)):
        assert float(divergence(log_p, log_q)) <= largest + 1e-12
        assert float(divergence(log_p, log_q)) == pytest.approx(float(divergence(log_q, log_p)), abs=1e-12)
    # Le Cam's and Pinsker's inequalities tie them together.
    h, tv, kl = (float(d(log_p, log_q)) for d in (hellinger, total_variation, kullback_leibler))
    assert h**2 <= tv + 1e-12
    assert tv <= math.sqrt(2) * h + 1e-12
    assert tv**2 <= kl / 2 + 1e-14  # squared: a root would blow up the rounding of a divergence near 0


def test_saturated_predictions_stay_exact():
    log_p, log_q = _pair([1000.0, 0.0, 0.0, 0.0], [0.0, 1000.0, 0.0, 0.0])
    assert float(kullback_leibler(log_p, log_q)) == pytest.approx(1000.0)
    assert float(jensen_shannon(log_p, log_q)) == pytest.approx(math.log(2))


def test_an_impossible_class_counts_nothing():
    never = torch.tensor([[0.5, 0.5, 0.0]]).log()
    for divergence in _ALL:
        assert float(divergence(never, never)) == pytest.approx(0.0, abs=1e-7)
    assert float(jensen_shannon(never, torch.tensor([[0.0, 0.0, 1.0]]).log())) == pytest.approx(math.log(2))


@pytest.mark.parametrize(
    ("task", "shape"), [("classification", (6, 3)), ("binary", (6,)), ("binary", (6, 1)), ("multilabel", (6, 3))]
)
def test_log_probabilities_are_those_of_the_task(task, shape):
    logits = torch.randn(shape, generator=torch.Generator().manual_seed(1)).double()
    found, expected = log_probabilities(task, logits).exp(), probabilities(task, logits)
    assert torch.allclose(found[..., 1] if task == "multilabel" else found, expected)
    assert torch.allclose(found.sum(-1), torch.ones((), dtype=torch.float64))


def test_what_is_not_a_number_is_not_taken_for_equal():
    sound, broken = torch.tensor([0.5, 0.5]).log(), torch.full((2,), math.nan)
    assert kullback_leibler(broken, sound).isnan()
    assert kullback_leibler(sound, broken).isnan()
