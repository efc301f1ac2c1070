"""What CI lets the demo print otherwise than the README, and what not."""

import importlib.util
from pathlib import Path

import pytest

_FILE = Path(__file__).parents[3] / ".ci" / "readme.py"
_SPEC = importlib.util.spec_from_file_location("readme_check", _FILE)
check = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(check)

TITLES = ["accuracy forget", "UMIA forget", "NLL forget [nats]", "AverageGap [pp]"]
LINE = "SSD  not told apart  0.966 ± 0.020 *  0.500 ± 0.100  0.031 ± 0.010  1.500 ± 0.900"
HEAD = "model  verdict  " + "  ".join(TITLES)


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ("Use SSD: its model is closest, at 9 % of the time.", "Use SRL: its model is closest, at 14 % of the time."),
        ("Use SSD: its model is closest.", "No method here forgets exactly as retraining does. SRL is closest."),
    ],
)
def test_another_machine_may_name_another_method(expected, found):
    assert check.difference(expected, found, TITLES) == ""
    assert check.difference(expected, "results in runs", TITLES) == "the advice differs"


def test_far_values_and_other_words_are_told():
    assert check.difference(LINE, LINE.replace("0.966", "0.950").replace("0.020", "0.500"), TITLES) == ""
    assert check.difference(LINE, LINE.replace("0.966", "0.850"), TITLES).startswith("too far apart")
    assert check.difference(LINE, LINE.replace("0.031", "0.931"), TITLES) == ""
    assert check.difference(LINE, LINE.replace("1.500", "6.500"), TITLES).startswith("too far apart")
    assert check.difference(LINE, LINE.replace("not told apart", "failed"), TITLES) == "the words differ"
    assert check.difference(LINE, LINE.rpartition("  ")[0], TITLES) == "the columns differ"


def test_a_few_verdicts_may_tip_and_not_all():
    lines = [HEAD, *[LINE] * 6]
    tipped = [HEAD, *[LINE] * 3, *[LINE.replace("not told apart", "under-forgotten")] * 3]
    assert check.differences("\n".join(lines), "\n".join(tipped)) == []
    all_tipped = [HEAD, *[LINE.replace("not told apart", "under-forgotten")] * 6]
    (problem,) = check.differences("\n".join(lines), "\n".join(all_tipped))
    assert problem == "6 verdicts differ; 4 may"
    assert check.differences("\n".join(lines), "\n".join(lines[:-1])) == ["7 lines were expected and 6 printed"]
