"""Facts read from the source text; that they equal the imported classes' is tested for all components in tests/architecture."""

import sys

import pytest

from erasure.registry.facts import Facts, facts_of

CONTRACT = '''
class Base:
    """The contract."""

    source = None
    reads = frozenset()

    def partitions(self):
        return dict.fromkeys(self.reads)
'''
METHODS = '''
from somewhere_else import Mixin
from theirs_for_facts.contract import Base

raise RuntimeError("this module must not be imported")

_SOURCE = Source(paper="Author, 2024, " "arXiv:1", deviations=("None",))


class Reads(Base, Mixin):
    """Reads two.

    More.
    """

    source: ClassVar[Source | None] = _SOURCE
    reads: ClassVar[frozenset[Role]] = frozenset({"retain", "forget"})


class Inherits(Reads):
    epochs: int = 3


class Wraps(Base):
    """Wraps others."""

    def partitions(self):
        return self.inner.partitions()


class Silent:
    pass
'''


@pytest.fixture
def theirs(tmp_path, monkeypatch):
    package = tmp_path / "theirs_for_facts"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('this package must not be imported')\n", encoding="utf-8")
    (package / "contract.py").write_text(CONTRACT, encoding="utf-8")
    (package / "methods.py").write_text(METHODS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield "theirs_for_facts.methods"
    assert "theirs_for_facts" not in sys.modules


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("Reads", Facts("Reads two.", "Author, 2024, arXiv:1", ("forget", "retain"))),
        ("Inherits", Facts("Reads two.", "Author, 2024, arXiv:1", ("forget", "retain"))),
        ("Wraps", Facts("Wraps others.", "", (), wraps=True)),
        ("Silent", Facts("")),
        ("Absent", Facts("")),
    ],
)
def test_facts_come_from_the_class_and_its_bases_without_an_import(theirs, name, facts):
    assert facts_of(f"{theirs}:{name}") == facts


@pytest.mark.parametrize("target", ["no_such_package_at_all:X", "no_such_package_at_all.module:X", "json:JSONEncoder", "sys:X"])
def test_a_module_that_is_not_ours_to_read_has_no_facts(target):
    assert isinstance(facts_of(target), Facts)


def test_a_module_that_does_not_parse_has_no_facts(tmp_path, monkeypatch):
    package = tmp_path / "broken_for_facts"
    package.mkdir()
    (package / "__init__.py").write_text("class X(:", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert facts_of("broken_for_facts:X") == Facts("")


def test_a_plugin_of_a_single_module_has_its_facts(tmp_path, monkeypatch):
    (tmp_path / "single_for_facts.py").write_text('class X:\n    """One line."""\n', encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert facts_of("single_for_facts:X") == Facts("One line.")
