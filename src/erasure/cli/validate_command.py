"""``erasure validate``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from erasure.cli.options import configuration_options
from erasure.cli.prose import printable
from erasure.cli.understanding import explained
from erasure.errors import ConfigError, Position, Problem

__all__ = ["command"]


@click.command("validate")
@configuration_options
@click.option("--explain", is_flag=True, help="Also print what each name stands for, what has no effect, and every default.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict, problems and notices as JSON.")
def command(config: Path, overrides: tuple[str, ...], trust: tuple[str, ...], explain: bool, as_json: bool) -> int:
    """Check CONFIG: every name, parameter and partition, without loading data or training.

    All problems are reported at once, each with file, line and column. The exit code is 0 if there are none, else 2.

    \b
    erasure validate my_experiment.jsonc
    erasure validate my_experiment.jsonc --explain
    """  # noqa: D301 - click's mark for lines that stay as they are
    from erasure.config import Notice
    from erasure.workflows.validation import validated

    try:
        found = validated(config, overrides, trust)
    except ConfigError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"valid": False, "problems": [_record(p) for p in error.problems], "notices": []}))
        return 2
    if as_json:
        record = {"valid": True, "problems": [], "notices": found["notices"]}
        click.echo(json.dumps(record | ({key: found[key] for key in ("names", "experiment")} if explain else {})))
        return 0
    notices = [Notice(n["message"], n["path"], Position(n["file"], n["line"], n["column"]), n["kind"]) for n in found["notices"]]
    if not explain:
        _show(f"note: {notice}" for notice in notices)
    labels = ", ".join(found["labels"])
    unlearners = _counted(len(found["labels"]), "unlearner") + (f" ({labels})" if labels else "")
    _show([f"{config} is valid: {unlearners}, {_counted(found['n_measures'], 'measure')}"])
    if explain:
        for title, lines in explained(found["names"], notices):
            _show(["", f"{title}:", *(f"  {line}" for line in lines)])
        click.echo("\nWith every default filled in:")
        click.echo(json.dumps(found["experiment"], indent=2))
    return 0


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(printable(line))


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _record(problem: Problem) -> dict[str, Any]:
    return {
        "message": problem.message,
        "path": problem.path,
        **_place(problem.position),
        "hint": problem.hint,
        "kind": problem.kind,
    }


def _place(position: Any) -> dict[str, Any]:
    return {"file": position.file, "line": position.line, "column": position.column}
