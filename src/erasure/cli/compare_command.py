"""``erasure compare``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from erasure.cli.prose import printable

if TYPE_CHECKING:
    from erasure.analysis.run_changes import RunChanges
    from erasure.analysis.run_comparison import RunComparison

__all__ = ["command"]

_MAX_NODES = 30
_MAX_VALUES = 40


@click.command("compare")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@click.option("--against", default="GoldModel", show_default=True, help="Method to compare the others with.")
@click.option(
    "--level", type=click.FloatRange(0.5, 0.9999), default=0.95, show_default=True, help="Confidence level of the tests."
)
@click.option("--html", type=click.Path(path_type=Path), help="Also write a leaderboard page to this file.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(runs: tuple[str, ...], against: str, level: float, html: Path | None, as_json: bool) -> int:
    """Compare runs: mean ranks, wins, ties and losses, and what changed from one run to the next.

    RUN is the directory of an earlier run, or a pattern of such. Runs of the same data and training recipe are repetitions of one
    another. Against gold the test of verdicts decides; between methods a difference within the noise floor, or one that is not
    significant after correction for many comparisons, is a tie.

    \b
    erasure compare runs/digits_seed0 runs/digits_seed1 runs/digits_seed2
    erasure compare "runs/**" --against Finetuning --html leaderboard.html
    erasure compare runs/before runs/after
    """  # noqa: D301 - click's mark for lines that stay as they are
    from erasure.analysis.run_comparison import compare_runs
    from erasure.records.run_folder import RunFolder
    from erasure.reports.query import run_directories

    directories = list(dict.fromkeys(path for run in runs for path in run_directories(run)))
    found = compare_runs([RunFolder.load(path) for path in directories], _names(directories), against=against, level=level)
    if html is not None:
        from erasure.reports.leaderboard import write_leaderboard

        write_leaderboard(found, html)
    if as_json:
        click.echo(json.dumps(_record(found), ensure_ascii=False, allow_nan=False))
    else:
        click.echo(_text(found))
    if html is not None:
        click.echo(f"leaderboard: {html}", err=True)
    return 0


def _names(directories: list[Path]) -> list[str]:
    """The shortest ends of the paths that tell the runs apart."""
    longest = max(len(path.parts) for path in directories)
    for length in range(1, longest):
        names = ["/".join(path.parts[-length:]) for path in directories]
        if len(set(names)) == len(names):
            return names
    return [path.as_posix() for path in directories]


def _record(found: RunComparison) -> dict[str, Any]:
    return {
        "runs": [{"name": run.name, "experiment": run.folder.name, "problem": run.problem} for run in found.runs],
        "against": found.against,
        "level": found.level,
        "notes": list(found.notes),
        "tallies": [dataclasses.asdict(tally) for tally in found.tallies],
        "duels": [dataclasses.asdict(duel) for duel in found.duels],
        "rankings": [
            {
                "title": ranking.title,
                "is_overall": ranking.is_overall,
                "problems": ranking.problems,
                "blocks": ranking.test.n,
                "ranks": dict(zip(ranking.labels, ranking.test.ranks, strict=True)),
                "friedman": ranking.test.statistic,
                "p": ranking.test.p,
                "critical_difference": ranking.test.critical_difference,
                "indistinguishable": [[ranking.labels[i] for i in group] for group in ranking.test.groups()],
            }
            for ranking in found.rankings
        ],
        "changes": [dataclasses.asdict(change) for change in found.changes],
    }


def _text(found: RunComparison) -> str:
    from erasure.reports.exports import number

    lines = [f"{run.name}  {run.folder.name}  {run.problem}" for run in found.runs]
    lines += [f"note: {note}" for note in found.notes]
    for ranking in found.rankings[:1]:
        test = ranking.test
        lines += [
            "",
            f"Mean ranks ({ranking.title}; {test.n} blocks of {ranking.problems} data set{'s' if ranking.problems > 1 else ''})",
            *_columns([[label, f"{rank:.2f}"] for label, rank in zip(ranking.labels, test.ranks, strict=True)]),
            f"critical difference {test.critical_difference:.2f}, Friedman p = {number(test.p)}",
            *(f"not told apart: {', '.join(ranking.labels[i] for i in group)}" for group in test.groups()),
        ]
    lines += ["", f"Against {found.against}"]
    tallies = [[t.label, *map(str, (t.wins, t.ties, t.losses, t.cheaper, t.costlier))] for t in found.tallies]
    lines += _columns([["method", "wins", "ties", "losses", "cheaper", "costlier"], *tallies])
    for duel in found.duels:
        if duel.outcome != "tie" and duel.is_gapped:
            p = f", p = {number(duel.p)}" if duel.p is not None else ""
            where = f"{duel.measure} {duel.partition}".strip()
            lines.append(f"{duel.outcome}: {duel.label}, {where} on {duel.problem}: {duel.reason}{p}")
    for change in found.changes:
        lines += ["", *_change_lines(change)]
    return "\n".join(printable(line) for line in lines)


def _change_lines(change: RunChanges) -> list[str]:
    from erasure.reports.exports import number

    lines = [f"From {change.old} to {change.new}", *([f"note: {change.note}"] if change.note else [])]
    lines += [f"configuration: {node.path}: {_shown(node.old)} -> {_shown(node.new)}" for node in change.nodes[:_MAX_NODES]]
    if len(change.nodes) > _MAX_NODES:
        lines.append(f"… and {len(change.nodes) - _MAX_NODES} more nodes (--json has all)")
    lines += [f"only in {change.old}: {label}" for label in change.only_old]
    lines += [f"only in {change.new}: {label}" for label in change.only_new]
    changed = change.changed
    for value in changed[:_MAX_VALUES]:
        old, new = ("none" if v is None else number(v) for v in (value.old, value.new))
        lines.append(f"changed: {value.label}, {f'{value.measure} {value.partition}'.strip()}: {old} -> {new} ({value.reason})")
    if len(changed) > _MAX_VALUES:
        lines.append(f"… and {len(changed) - _MAX_VALUES} more values (--json has all)")
    counts = {kind: sum(v.judgement == kind for v in change.values) for kind in ("same", "within noise", "undecided")}
    lines.append(", ".join(f"{n} {kind}" for kind, n in {"changed": len(changed), **counts}.items()))
    return lines


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]) for row in rows]
