import itertools
from inspect import signature

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from erasure.errors import DataError
from erasure.functional.calibration import brier_score, expected_calibration_error

_SAMPLES = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60)


def _plain_ece(confidence, right, edges):
    """The definition, bin by bin."""
    confidence, right = np.asarray(confidence), np.asarray(right, dtype=float)
    total = 0.0
    for low, high in itertools.pairwise(edges):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


@given(_SAMPLES, st.integers(1, 20))
def test_ece_is_the_definition_bin_by_bin(samples, n_bins):
    confidence, right = (np.array(side, dtype=float) for side in zip(*samples, strict=True))
    edges = np.arange(n_bins + 1) / n_bins
    edges[0] = -1.0  # a confidence of exactly 0 is in the first bin
    found = expected_calibration_error(torch.tensor(confidence), torch.tensor(right), n_bins=n_bins)
    assert found == pytest.approx(_plain_ece(confidence, right, edges), abs=1e-12)


def test_bins_of_equal_mass_split_the_sorted_samples():
    generator = np.random.default_rng(0)
    confidence, right = generator.random(103), generator.random(103) < 0.5
    order = np.argsort(confidence)
    chunks = np.split(order, [-(-k * 103 // 10) for k in range(1, 10)])
    expected = sum(len(c) / 103 * abs(right[c].mean() - confidence[c].mean()) for c in chunks)
    found = expected_calibration_error(torch.tensor(confidence), torch.tensor(right), n_bins=10, equal_mass=True)
    assert found == pytest.approx(expected, abs=1e-12)


@given(_SAMPLES, st.randoms())
def test_the_order_of_samples_does_not_matter_even_with_equal_confidences(samples, random):
    shuffled = list(samples)
    random.shuffle(shuffled)
    found = [
        expected_calibration_error(
            torch.tensor([c for c, _ in each], dtype=torch.float64), torch.tensor([r for _, r in each]), n_bins=5, equal_mass=True
        )
        for each in (samples, shuffled)
    ]
    assert found[0] == pytest.approx(found[1], abs=1e-12)


def test_calibrated_predictions_have_an_error_near_zero_and_sure_wrong_ones_one():
    generator = torch.Generator().manual_seed(0)
    confidence = torch.rand(200_000, generator=generator)
    right = torch.rand(200_000, generator=generator) < confidence
    assert expected_calibration_error(confidence, right) < 0.01
    assert expected_calibration_error(torch.ones(5), torch.zeros(5)) == 1.0


@pytest.mark.skipif("scale_by_half" not in signature(brier_score_loss).parameters, reason="scikit-learn halves it here")
@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_brier_score_is_scikit_learns(n_classes):
    generator = torch.Generator().manual_seed(n_classes)
    p = torch.randn(50, n_classes, generator=generator).double().softmax(1)
    labels = torch.arange(50) % n_classes
    expected = brier_score_loss(labels.numpy(), p.numpy() if n_classes > 2 else p[:, 1].numpy(), scale_by_half=False)
    assert brier_score(p, torch.nn.functional.one_hot(labels)) == pytest.approx(expected)


def test_nothing_is_refused():
    with pytest.raises(DataError):
        expected_calibration_error(torch.zeros(0), torch.zeros(0))
    with pytest.raises(DataError):
        brier_score(torch.zeros(0, 2), torch.zeros(0, 2))
