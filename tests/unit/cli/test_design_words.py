"""Designs in words."""

from erasure.analysis.designs import outlook
from erasure.analysis.labellings import Design
from erasure.cli.designs import design_lines, proposal_lines


def test_numbers_of_labellings_that_nobody_can_read_are_rounded():
    few, many = (outlook(Design(((1, 19),) * n), 1, price_s=60.0) for n in (2, 20))
    assert "400 labellings" in design_lines(few)
    assert "about 1e26 labellings" in design_lines(many)
    header, *rows = proposal_lines([many, few], 600).splitlines()[1:4]
    assert {len(row) for row in rows} == {len(header)}
