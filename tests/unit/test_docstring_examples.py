"""Every example in a docstring gives what stands below it: the text to the letter, the numbers as any processor computes them."""

import doctest
import importlib
import math
import re
from pathlib import Path

import pytest
import torch

import erasure

_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?")
_ROOT = Path(erasure.__file__).parents[1]
_MODULES = [
    ".".join(path.relative_to(_ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(_ROOT.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


class _Checker(doctest.OutputChecker):
    """Floats agree to six digits, as the order of a sum is the processor's; integers and text agree exactly."""

    def check_output(self, want, got, optionflags):
        if super().check_output(want, got, optionflags):
            return True
        wanted, found = (_NUMBER.findall(text) for text in (want, got))
        return (
            len(wanted) == len(found)
            and all(math.isclose(float(a), float(b), rel_tol=1e-6, abs_tol=1e-7) for a, b in zip(wanted, found, strict=True))
            and super().check_output(_NUMBER.sub("#", want), _NUMBER.sub("#", got), optionflags)
        )


def _differs(want, got):
    return not _Checker().check_output(want + "\n", got + "\n", 0)


@pytest.mark.parametrize("name", _MODULES)
def test_the_examples_in_the_docstrings_hold(name):
    module = importlib.import_module(name)
    finder, runner = doctest.DocTestFinder(exclude_empty=True), doctest.DocTestRunner(checker=_Checker(), verbose=False)
    said = []
    for example in finder.find(module, name, extraglobs={"torch": torch}):
        runner.run(example, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def test_the_examples_are_found():
    assert "erasure.functional.membership" in _MODULES and "erasure" in _MODULES


@pytest.mark.parametrize(
    ("want", "got"),
    [
        ("0.875", "0.8750000001"),
        ("tensor([0.1000, 2.])", "tensor([0.1000, 2.0000])"),
        ("(0.30000000000000004, 'a')", "(0.3, 'a')"),
        ("1e-05", "1.00000001e-05"),
        ("0.0", "-1.1e-08"),
    ],
)
def test_the_last_digits_are_the_processors(want, got):
    assert not _differs(want, got)


@pytest.mark.parametrize(
    ("want", "got"),
    [("0.875", "0.876"), ("3", "4"), ("[0.5]", "(0.5)"), ("0.5", "nan"), ("0.5", "0.5 0.5"), ("'v1.50'", "'v1.5'"), ("2.0", "2")],
)
def test_another_answer_is_noticed(want, got):
    assert _differs(want, got)
