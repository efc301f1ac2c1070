"""Every word that a report or the leaderboard uses for what it found is explained in the docs."""

import re
from pathlib import Path
from typing import get_args

import pytest

import erasure
from erasure.analysis.verdicts import RULE, TITLES
from erasure.records.rows import Status

DOCS = Path(__file__).parents[3] / "docs"
TEMPLATES = Path(erasure.__file__).parent / "reports" / "templates"
PAGES = ("glossary", "verdicts", "numbers", "notation")


def _explained():
    """What is in the first cell of a table's row, in any cell as code, or bold, in the pages that explain words."""
    found = set()
    for page in PAGES:
        text = (DOCS / f"{page}.md").read_text("utf-8")
        cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("|") and line.count("|") > 2]
        for cell in [*cells, *re.findall(r"\*\*(.+?)\*\*", text), *re.findall(r"`([^`]+)`", text)]:
            found |= {part.strip(" *`").casefold() for part in (cell, *cell.split(","), *cell.split(";"))}
    return found


def _heads(template):
    """Words in the heads of the columns, and the chips that stand for a verdict, of a page."""
    text = (TEMPLATES / template).read_text("utf-8")
    heads = re.findall(r"<th[^>]*>(?:<button[^>]*>)?([^<{]+?)(?:</button>)?</th>", text)
    looped = [word for words in re.findall(r"for head in \[([^\]]+)\]", text) for word in re.findall(r"'([^']+)'", words)]
    return sorted({head.replace("’", "'").strip().casefold() for head in (*heads, *looped)})


@pytest.mark.parametrize("template", ["report.html.j2", "leaderboard.html.j2"])
def test_every_column_head_is_explained(template):
    heads = _heads(template)
    assert len(heads) > 8
    assert [head for head in heads if head not in _explained()] == []


def test_every_verdict_is_explained_once():
    said = [name for name, _ in RULE]
    assert sorted(said) == sorted(TITLES.values())
    assert {title for title in TITLES.values() if title.casefold() not in _explained()} == set()


def test_every_status_is_explained():
    assert {status for status in get_args(Status) if status not in _explained()} == set()


@pytest.mark.parametrize(
    "word", ["the reference", "before forgetting", "noise floor", "gold", "original", "verdict", "win", "loss", "tie"]
)
def test_words_in_the_cells_are_explained(word):
    assert word in _explained()
