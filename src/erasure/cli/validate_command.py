"""``erasure validate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from erasure.cli.options import configuration_options, experiment_from
from erasure.errors import ConfigError, Problem

__all__ = ["command"]


@click.command("validate")
@configuration_options
@click.option("--explain", is_flag=True, help="Also print the experiment as it is understood, every default filled in.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict, problems and notices as JSON.")
def command(config: Path, overrides: tuple[str, ...], trust: tuple[str, ...], explain: bool, as_json: bool) -> int:
    """Check CONFIG: every name, parameter and partition, without loading data or training.

    All problems are reported at once, each with file, line and column. The exit code is 0 if there are none, else 2.

    \b
    erasure validate my_experiment.jsonc
    erasure validate my_experiment.jsonc --explain
    """  # noqa: D301 - click's mark for lines that stay as they are
    try:
        experiment = experiment_from(config, overrides, trust)
    except ConfigError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"valid": False, "problems": [_record(p) for p in error.problems], "notices": []}))
        return 2
    notices = [{"message": n.message, "path": n.path, **_place(n.position)} for n in experiment.notices]
    if as_json:
        record = {"valid": True, "problems": [], "notices": notices}
        click.echo(json.dumps(record | ({"experiment": experiment.canonical()} if explain else {})))
        return 0
    for notice in experiment.notices:
        click.echo(f"note: {notice}")
    labels = ", ".join(entry.label for entry in experiment.unlearners) or "none"
    click.echo(
        f"{config} is valid: {len(experiment.unlearners)} unlearners ({labels}), {len(experiment.evaluator.measures)} measures"
    )
    if explain:
        click.echo(json.dumps(experiment.canonical(), indent=2))
    return 0


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
