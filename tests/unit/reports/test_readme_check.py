"""What CI lets the demo print otherwise than the README, and what not."""

import importlib.util
from pathlib import Path

import pytest

_FILE = Path(__file__).parents[3] / ".ci" / "readme.py"
_SPEC = importlib.util.spec_from_file_location("readme_check", _FILE)
check = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(check)

LINE = (
    "{} came nearest to retraining on this seed, at {} % of the time that retraining takes. Another seed may name another method."
)


@pytest.mark.parametrize("line", [LINE, "Use {}: its model is closest to one retrained, at {} % of the time."])
def test_another_machine_may_be_slower_and_name_another_method(line):
    assert check.difference(line.format("SSD", 9), line.format("UNSIR + Finetuning", 14)) == ""
    assert check.difference(line.format("SSD", 9), line.format("SSD", 9).replace("of the time", "of time")) == "the words differ"


def test_verdicts_and_far_values_are_told():
    line = "SSD  no-op  0.966 *  0.981  0.968  0.500"
    assert check.difference(line, line.replace("0.966", "0.950")) == ""
    assert check.difference(line, line.replace("0.966", "0.850")).startswith("too far apart")
    assert check.difference(line, line.replace("no-op", "failed")) == "the words differ"
