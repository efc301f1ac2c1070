import pytest
import torch

from erasure.functional.diverged import (
    OUTPUT_BOUND,
    WEIGHT_BOUND,
    has_diverged,
    outputs_diverged,
    weight_that_diverged,
    weights_diverged,
)

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("bad", "expected"), [(1.0, False), (-9.0, False), (-11.0, True), (11.0, True), (NAN, True), (-INF, True)]
)
@pytest.mark.parametrize("n", [1, 7, 1000])
def test_one_bad_number_among_many_is_enough(dtype, bad, expected, n):
    values = torch.ones(n, dtype=dtype)
    values[n // 2] = bad
    assert bool(has_diverged(values, 10.0)) is expected


def test_a_bound_that_half_precision_cannot_hold_lets_nothing_infinite_through():
    values = torch.tensor([1.0, INF], dtype=torch.float16)
    assert has_diverged(values, WEIGHT_BOUND) and weights_diverged([values]) and outputs_diverged(values)
    assert weight_that_diverged({"a": values}) == "a holds values that are not finite"
    assert not has_diverged(values[:1], WEIGHT_BOUND)


def test_what_is_empty_has_not_diverged():
    assert not has_diverged(torch.zeros(0), 1.0)
    assert not weights_diverged([])
    assert not weights_diverged([torch.zeros(0)], [torch.zeros(0)])
    assert weight_that_diverged({}) is None


def test_complex_numbers_are_measured_by_their_magnitude():
    assert has_diverged(torch.tensor([6 + 9j]), 10.0) and not has_diverged(torch.tensor([6 + 7j]), 10.0)


@pytest.mark.parametrize(("value", "expected"), [(WEIGHT_BOUND, False), (2 * WEIGHT_BOUND, True), (NAN, True), (INF, True)])
def test_a_weight_has_a_bound_and_is_named(value, expected):
    weights = {"first": torch.ones(2, 2), "second": torch.tensor([0.0, value])}
    assert bool(weights_diverged(list(weights.values()))) is expected
    found = weight_that_diverged(weights)
    assert (found is not None and found.startswith("second holds values")) is expected


def test_a_buffer_must_be_finite_and_may_be_large():
    variance, count = torch.tensor([1e20]), torch.tensor(10**15)
    assert not weights_diverged([torch.ones(1)], [variance, count])
    assert weight_that_diverged({}, {"variance": variance, "count": count}) is None
    assert weights_diverged([torch.ones(1)], [torch.tensor([NAN])])
    assert weight_that_diverged({}, {"mean": torch.tensor([NAN])}) == "mean holds values that are not finite"


def test_outputs_may_be_larger_than_weights():
    assert not outputs_diverged(torch.tensor([-0.9 * OUTPUT_BOUND]))
    assert outputs_diverged(torch.tensor([1.0, -1.1 * OUTPUT_BOUND]))
