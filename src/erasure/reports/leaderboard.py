"""The leaderboard of many runs: one HTML file that opens from the disk, without network, script or server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from erasure.analysis.run_changes import ValueChange
from erasure.analysis.run_comparison import RULE, Duel, MeanRanks, RunComparison
from erasure.durable import write_atomically
from erasure.reports.exports import number
from erasure.reports.templating import render, template_text

__all__ = ["leaderboard", "write_leaderboard"]

_MAX = 500
"""Lines of one table."""
_LETTERS = 26
_LONGEST = 200
"""Characters of a value of the configuration."""


def write_leaderboard(comparison: RunComparison, path: Path) -> None:
    """Write the page.

    Raises:
        MissingDependency: If what it is made with is not installed.
        StoreError: If the file cannot be written.
    """
    write_atomically(path, leaderboard(comparison).encode("utf-8", "replace"))


def leaderboard(comparison: RunComparison) -> str:
    """The page as HTML: mean ranks with critical differences, wins, ties and losses, and what changed.

    Raises:
        MissingDependency: If what it is made with is not installed.
    """
    overall = next((ranking for ranking in comparison.rankings if ranking.is_overall), None)
    return render(
        "leaderboard.html.j2",
        "making a leaderboard",
        filters={"number": lambda value: "" if value is None else number(value)},
        comparison=comparison,
        overall=_ranking(overall) if overall is not None else None,
        headline=_headline(comparison, overall),
        singles=[_ranking(ranking) for ranking in comparison.rankings if not ranking.is_overall][:_MAX],
        decided=[duel for duel in comparison.duels if duel.outcome != "tie"],
        n_tied=sum(duel.outcome == "tie" for duel in comparison.duels),
        where=_where,
        shown=_shown,
        most=_MAX,
        rule=RULE,
        style=template_text("report.css"),
    )


def _headline(comparison: RunComparison, overall: MeanRanks | None) -> str:
    n, problems = len(comparison.runs), len({run.problem for run in comparison.runs})
    counted = f"{n} run{'s' if n > 1 else ''} on {problems} data set{'s' if problems > 1 else ''}."
    if overall is None:
        return f"{counted} There are not two methods that all of them share, so none are ranked."
    tied = next((group for group in overall.test.groups() if 0 in group), ())
    if len(tied) > 1:
        others = "one other" if len(tied) == 2 else f"{len(tied) - 1} others"
        return f"{counted} {overall.labels[0]} has the best mean rank, but is not told apart from {others}."
    return f"{counted} {overall.labels[0]} has the best mean rank, ahead of all others by more than the critical difference."


def _ranking(ranking: MeanRanks) -> dict[str, Any]:
    test = ranking.test
    groups = test.groups()
    best, worst = min(test.ranks), max(len(test.ranks), 2)
    # Letters as in tables of multiple comparisons: methods that share one are not told apart.
    letters: dict[int, str] = {}
    for position, group in enumerate(groups[:_LETTERS]):
        for place in group:
            letters[place] = letters.get(place, "") + chr(ord("a") + position)
    for place in set().union(*groups[_LETTERS:]):
        letters[place] = letters.get(place, "") + "…"
    lines = [
        {
            "label": label,
            "rank": f"{rank:.2f}",
            "letters": letters.get(place, ""),
            "share": max(0.0, min(1.0, (worst - rank) / (worst - 1))),
            "is_tied": rank - best < test.critical_difference or test.p > 1 - test.level,
        }
        for place, (label, rank) in enumerate(zip(ranking.labels[:_MAX], test.ranks, strict=False))
    ]
    return {"title": ranking.title, "lines": lines, "n": len(ranking.labels), "test": test, "problems": ranking.problems}


def _where(what: Duel | ValueChange) -> str:
    return f"{what.measure}, {what.partition}" if what.partition else what.measure


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
