"""``erasure validate``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from erasure.cli.listeners import listener_options
from erasure.cli.options import configuration_options, looks_option, run_options
from erasure.cli.prose import printable
from erasure.cli.understanding import explained
from erasure.errors import ConfigError, Diagnostic, Position
from erasure.records.collection import importing

__all__ = ["command"]


@click.command("validate")
@configuration_options
@run_options
@looks_option
@listener_options
@click.option("--output", type=click.Path(path_type=Path), help="Also check that results can be written to this directory.")
@click.option("--quiet", is_flag=True, help="Hide notices; still print the outcome and errors.")
@click.option("--explain", is_flag=True, help="Also print what each name stands for, what has no effect, and every default.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome, problems and notices as JSON.")
def command(
    config: Path,
    overrides: tuple[str, ...],
    trust: tuple[str, ...],
    output: Path | None,
    log_json: Path | None,
    trackers: tuple[str, ...],
    quiet: bool,
    explain: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Check CONFIG: every name, parameter and partition, without loading data or training.

    All problems are reported at once, each with file, line and column. The exit code is 0 if there are none, else 2. Every option of
    "erasure run" is taken, so that a command can be checked before it is run: a device that was asked for must be there, and the
    directories of --output, --store and --log-json must be writable. Nothing is written.

    \b
    erasure validate my_experiment.jsonc
    erasure validate my_experiment.jsonc --explain
    erasure validate my_experiment.jsonc --seeds 0-4 --device cuda --output runs/mine
    """  # noqa: D301 - click's mark for lines that stay as they are
    from erasure.config import Notice
    from erasure.workflows.validation import validated

    try:
        with importing():
            found = validated(config, overrides, trust)
        _check_options(found["name"], output, log_json, trackers, options)
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
    if not explain and not quiet:
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


def _check_options(
    name: str, output: Path | None, log_json: Path | None, trackers: Sequence[str], options: Mapping[str, Any]
) -> None:
    """Refuse what ``erasure run`` would refuse of its options; what needs torch is looked at only where it was asked for.

    Raises:
        ConfigError: If there is no such tracker.
        RequirementNotMet: If the device is not there, or the executor cannot share it.
        StoreError: If results, the store or the log cannot be written, or the output directory has another experiment's results.
    """
    if options["seed"] is not None and options["seeds"] is not None:
        raise click.UsageError("give --seed or --seeds, not both")
    if options["device"] != "auto" or options["devices"] > 1:
        from erasure.planning.devices import check_devices

        check_devices(options["devices"], options["device"], options["executor"])
    if trackers:
        from erasure.trackers import check_tracker

        for choice in trackers:
            check_tracker(choice)
    if output is not None or log_json is not None:
        from erasure.records.output_folder import check_output, check_writable

        if output is not None:
            check_output(output, name)
        if log_json is not None:
            check_writable(log_json.parent, option="--log-json")
    if options["store"] is not None:
        from erasure.records.output_folder import check_writable
        from erasure.store import Store

        check_writable(Store(options["store"], read_only=True).root, option="--store")


def _show(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(printable(line))


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _record(problem: Diagnostic) -> dict[str, Any]:
    return {
        "message": problem.message,
        "path": problem.path,
        **_place(problem.position),
        "hint": problem.hint,
        "kind": problem.kind,
    }


def _place(position: Any) -> dict[str, Any]:
    return {"file": position.file, "line": position.line, "column": position.column}
