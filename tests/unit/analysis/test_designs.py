"""Which designs can accuse, and which one a budget should be spent on."""

import pytest

from erasure.analysis.designs import affordable, least_designs, outlook
from erasure.analysis.labellings import Design
from erasure.analysis.power import basis_of


def test_three_golds_of_one_original_can_accuse_nobody():
    found = outlook(Design(((1, 3),)), 1)
    assert (found.basis, found.shift, found.n_labellings, found.smallest_p) == ("", None, 4, 0.25)


def test_no_golds_judge_nobody():
    assert outlook(None, 3).shift is None


@pytest.mark.parametrize(
    ("design", "n_methods", "shift"), [(((1, 4),) * 5, 1, 2.0), (((1, 9),), 15, 7.5), (((1, 9),) * 3, 1, 2.4)]
)
def test_shifts_agree_with_the_table_of_designs(design, n_methods, shift):
    assert outlook(Design(design), n_methods).shift == pytest.approx(shift, abs=0.5)


@pytest.mark.parametrize("n_methods", [1, 3, 15])
def test_the_least_designs_can_accuse_and_one_gold_less_cannot(n_methods):
    for design in least_designs(n_methods):
        basis = basis_of(design, n_methods)
        assert basis
        smaller = Design(tuple((1, golds - 1) for _, golds in design.blocks)) if design.blocks[0][1] > 2 else None
        if smaller is not None and basis == "labellings":
            assert basis_of(smaller, n_methods) != "labellings"
    assert least_designs(1)[0].blocks == ((1, 5),)


def test_a_budget_goes_to_the_design_that_finds_the_smallest_shift():
    price = lambda n_originals, n_golds: n_originals * (2 + 0.2 * n_golds)  # noqa: E731 - a price list
    few = {"originals": (1, 3, 5), "golds": (4, 9, 19)}
    found = affordable(20, price, 5, **few)
    assert all(each.price_s <= 20 for each in found)
    order = [(round(each.shift, 1), each.price_s) for each in found]
    assert order == sorted(order)  # of those that find as much the cheapest
    assert found[0].n_originals >= 3  # originals are worth more than golds
    assert affordable(200, price, 5, **few)[0].shift < found[0].shift
    assert affordable(1, price, 5) == []


def test_more_golds_are_never_said_to_find_less():
    found = affordable(1e6, lambda _, n_golds: float(n_golds), 13, originals=(10,), golds=(5, 6, 9, 12))
    shifts = [each.shift for each in sorted(found, key=lambda each: each.n_golds)]
    assert len(shifts) == 4
    assert shifts == sorted(shifts, reverse=True)
