"""Designs in words."""

from erasure.analysis.calibration import Calibration, Missed
from erasure.analysis.designs import outlook
from erasure.analysis.families import TestedColumn as Column
from erasure.analysis.findings import Finding
from erasure.analysis.labellings import Design
from erasure.cli.calibrate_command import printable_lines
from erasure.cli.designs import design_lines, proposal_lines


def test_numbers_of_labellings_that_nobody_can_read_are_rounded():
    few, many = (outlook(Design(((1, 19),) * n), 1, price_s=60.0) for n in (2, 20))
    assert "400 labellings" in design_lines(few)
    assert "about 1e26 labellings" in design_lines(many)
    header, *rows = proposal_lines([many, few], 600).splitlines()[1:4]
    assert {len(row) for row in rows} == {len(header)}


def test_a_design_that_finds_large_shifts_alone_says_what_it_cannot_see_and_what_can():
    one, five = (design_lines(outlook(Design(((1, golds),) * n), 1)) for n, golds in ((1, 19), (5, 4)))
    assert "An original that has forgotten nothing may differ by less" in one
    assert "it is found by --seeds 0-4 --set evaluator.floor_repeats=4" in one
    assert "To call a method indistinguishable takes three originals." in one
    assert "forgotten nothing" not in five and "three originals" not in five


def calibration(n_found, statistic="", spread=0.28, n_originals=1):
    column = Column("memory left", "forget", "forgotten", 1, "knowledge", "", False, 0.0, statistic=statistic)
    original = {Finding.UNDER_FORGOTTEN: n_found}
    missed = (Missed(column, 0.0, spread, 1.0),)
    return printable_lines(Calibration(n_originals, 4, 20, 1, 1, 100, 2, {Finding.NOT_TOLD_APART: 100}, original, missed=missed))


def test_a_calibration_that_does_not_find_the_original_is_called_blind():
    assert "this design is blind" in calibration(22)
    assert "five originals with four golds each (--seeds 0-4) and by the measure ResidualMemory" in calibration(22)
    assert "by more originals" in calibration(22, "memory", n_originals=5)
    assert "blind" not in calibration(97)


def test_a_calibration_says_how_many_originals_bound_what_is_left():
    sharp, dull, hopeless = (calibration(97, "memory", spread) for spread in (0.08, 0.28, 2.0))
    assert "takes about 4 originals with 4 further golds each" in sharp
    assert "spreads by 0.28" in dull and "takes about 23 originals" in dull
    assert "more than a hundred" in hopeless
