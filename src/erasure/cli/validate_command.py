"""``erasure validate``."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from erasure.cli.options import configuration_options, experiment_from
from erasure.cli.prose import printable
from erasure.cli.understanding import explained
from erasure.errors import ConfigError, Problem

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
    try:
        experiment = experiment_from(config, overrides, trust)
    except ConfigError as error:
        if not as_json:
            raise
        click.echo(json.dumps({"valid": False, "problems": [_record(p) for p in error.problems], "notices": []}))
        return 2
    notices = [{"message": n.message, "path": n.path, "kind": n.kind, **_place(n.position)} for n in experiment.notices]
    places = sorted(experiment.places, key=lambda entry: entry[1].position)
    names = [_name(component, place) for component, place in places if place.name]
    if as_json:
        record = {"valid": True, "problems": [], "notices": notices}
        click.echo(json.dumps(record | ({"names": names, "experiment": experiment.canonical()} if explain else {})))
        return 0
    if not explain:
        _show(f"note: {notice}" for notice in experiment.notices)
    labels = ", ".join(entry.label for entry in experiment.unlearners)
    unlearners = _counted(len(experiment.unlearners), "unlearner") + (f" ({labels})" if labels else "")
    measures = _counted(len(experiment.evaluator.measures), "measure")
    _show([f"{config} is valid: {unlearners}, {measures}"])
    if explain:
        for title, lines in explained(names, experiment.notices):
            _show(["", f"{title}:", *(f"  {line}" for line in lines)])
        click.echo("\nWith every default filled in:")
        click.echo(json.dumps(experiment.canonical(), indent=2))
    return 0


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(printable(line))


def _name(component: Any, place: Any) -> dict[str, Any]:
    cls = type(component)
    target = component.path if hasattr(component, "namespaces") else f"{cls.__module__}:{cls.__qualname__}"
    record = {"name": place.name, "class": target, "path": place.path, **_place(place.position)}
    return record | {key: dict(getattr(place, key)) for key in ("renamed", "assumed") if getattr(place, key)}


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
