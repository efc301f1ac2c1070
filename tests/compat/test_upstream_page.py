"""The page on published configurations names every class path and what it stands for."""

import re
from pathlib import Path

import pytest

from erasure.registry.upstream import SECTIONS, UPSTREAM

PAGE = (Path(__file__).parents[2] / "docs" / "upstream.md").read_text(encoding="utf-8")


def rows():
    """Full class path to the cells beside it."""
    found = {}
    for section in PAGE.split("\n### ")[1:]:
        prefix = re.search(r"Paths begin with `([\w.]+)`", section)[1]
        for line in section.splitlines():
            if line.startswith("| `"):
                path, *cells = (cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1])
                found[prefix + path.strip("`")] = cells
    return found


ROWS = rows()


def test_the_page_has_every_class_path_and_no_other():
    assert sorted(ROWS) == sorted(UPSTREAM)


@pytest.mark.parametrize("path", UPSTREAM)
def test_a_row_says_what_a_class_path_stands_for(path):
    alias, (here, renamed, ignored, said) = UPSTREAM[path], ROWS[path]
    assert here == (f"`{alias.target}`" if alias.target else "its runners" if alias.spliced else "left out")
    names = {name for name, ours in alias.rename.items() if name != ours} | set(alias.wrap)
    names |= {name for ours, rule in alias.derived.items() for name in rule.takes if name != ours}
    assert set(re.findall(r"`(\w+)`", re.sub(r"→ `[^`]*`", "", renamed))) == names
    assert set(re.findall(r"`(\w+)`", ignored)) == set(alias.ignored)
    for sentence in (alias.note, alias.fault, alias.dropped):
        assert sentence.replace("|", "\\|") in said


def test_the_page_says_why_a_parameter_has_no_effect():
    table = PAGE.partition("## What has no effect, and why")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| `")]
    said = {(path, name, why) for names, paths, why in rows for name in names.split(", ") for path in paths.split(", ")}
    for path, alias in {**UPSTREAM, **SECTIONS}.items():
        short = ".".join(path.split(".")[-2:]) if path.endswith(".Attack") else path.rpartition(".")[2]
        for name, why in alias.ignored.items():
            assert (f"`{short}`", f"`{name}`", why) in said, (path, name)


def test_the_page_names_the_sections():
    assert all(f"`{name}`" in PAGE for name in SECTIONS)
