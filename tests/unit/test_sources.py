"""What components say of their tests is so: the files are there and use the component."""

import re
from pathlib import Path

import pytest

from erasure.catalogue import BUILTINS
from erasure.config.slots import SLOTS
from erasure.registry.lookup import Registry

ROOT = Path(__file__).parents[2]
SOURCED = [
    (kind, name)
    for kind in BUILTINS
    for name in BUILTINS[kind]
    if (source := Registry().resolve(name, SLOTS[kind]()).cls.source) and (source.code or source.tested)
]
TRAJECTORY = re.compile(r"^def test_(?:the_trajectory_is|it_follows|\w+_follows?_the_(?:paper|authors))", re.MULTILINE)


@pytest.mark.parametrize(("kind", "name"), SOURCED)
def test_a_component_with_reference_code_says_what_it_was_tested_against(kind, name):
    cls = Registry().resolve(name, SLOTS[kind]()).cls
    files = re.findall(r"tests/[\w/]+\.py", cls.source.tested)
    assert files, "name the tests in Source.tested"
    texts = [(ROOT / file).read_text(encoding="utf-8") for file in files]
    assert any(re.search(rf"\b({cls.__name__}|{re.escape(name)})\b", text) for text in texts)
    assert not re.search(r"not run|none run|untested", f"{cls.source.code} {cls.source.tested}")


def test_methods_with_a_trajectory_by_hand_say_so():
    """A module of tests that computes every step by hand is named by a method that it uses."""
    named = {file for kind, name in SOURCED for file in re.findall(r"tests/[\w/]+\.py", _source(kind, name).tested)}
    by_hand = [p for p in (ROOT / "tests/unit/unlearners").glob("test_*.py") if TRAJECTORY.search(p.read_text(encoding="utf-8"))]
    assert len(by_hand) >= 10
    composition = {"tests/unit/unlearners/test_masked.py"}  # Masked has no reference code
    assert {p.relative_to(ROOT).as_posix() for p in by_hand} <= named | composition


def _source(kind, name):
    return Registry().resolve(name, SLOTS[kind]()).cls.source
