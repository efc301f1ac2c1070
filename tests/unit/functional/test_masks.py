import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.errors import DataError
from erasure.functional.masks import top_fraction_mask

few_values = st.lists(st.integers(0, 4), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None)
@given(few_values, st.integers(0, 100), st.integers(0, 40))
def test_the_mask_is_that_of_a_sort_in_plain_python(values, percent, cut):
    cut = min(cut, len(values))
    scores = {"a": torch.tensor(values[:cut], dtype=torch.float64), "b": torch.tensor(values[cut:], dtype=torch.float64)}
    mask = top_fraction_mask(scores, percent / 100)
    chosen = math.floor(Fraction(percent, 100) * len(values))
    ranked = sorted(range(len(values)), key=lambda i: (-values[i], i))[:chosen]
    expected = [i in ranked for i in range(len(values))]
    assert mask["a"].tolist() + mask["b"].tolist() == expected


def test_shapes_and_names_are_kept():
    mask = top_fraction_mask({"w": torch.rand(2, 3), "s": torch.rand(()), "e": torch.rand(0)}, 0.5)
    assert {name: (tuple(m.shape), m.dtype) for name, m in mask.items()} == {
        "w": ((2, 3), torch.bool),
        "s": ((), torch.bool),
        "e": ((0,), torch.bool),
    }
    assert sum(int(m.sum()) for m in mask.values()) == 3


def test_the_fraction_is_read_as_a_decimal():
    assert math.floor(0.29 * 100) == 28  # what binary arithmetic would give
    assert int(top_fraction_mask({"w": torch.rand(100)}, 0.29)["w"].sum()) == 29


def test_all_and_none():
    scores = {"w": torch.rand(7)}
    assert top_fraction_mask(scores, 1.0)["w"].all()
    assert not top_fraction_mask(scores, 0.0)["w"].any()
    assert top_fraction_mask({}, 0.5) == {}


def test_scores_that_are_not_finite_and_fractions_outside_are_refused():
    with pytest.raises(DataError, match="not finite"):
        top_fraction_mask({"w": torch.tensor([1.0, float("nan")])}, 0.5)
    with pytest.raises(DataError, match="between 0 and 1"):
        top_fraction_mask({"w": torch.ones(2)}, 1.5)


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float32, torch.float64))
def test_the_mask_is_that_of_a_stable_sort_for_any_floating_type(dtype):
    values = torch.randint(-20, 20, (1000,), generator=torch.Generator().manual_seed(0)).to(dtype) / 2
    values[::7] = -0.0
    for chosen in (1, 500, 999):
        expected = torch.zeros(1000, dtype=torch.bool)
        expected[torch.argsort(values.double(), descending=True, stable=True)[:chosen]] = True
        assert torch.equal(top_fraction_mask({"w": values}, chosen / 1000)["w"], expected)
