"""``erasure run``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from erasure.cli.listeners import listener_options, listening
from erasure.cli.options import configuration_options, experiment_from, options_from, run_options
from erasure.cli.prose import printable

__all__ = ["command", "directory_name", "say_failures"]


@click.command("run")
@configuration_options
@run_options
@click.option(
    "--looks",
    type=click.IntRange(min=1),
    help="Looks planned at this folder while seeds are added; each takes its share of the 5 %. [default: 1]",
)
@listener_options
@click.option("--output", type=click.Path(path_type=Path), help="Directory of the result files. [default: runs/NAME]")
@click.option("--quiet", is_flag=True, help="No progress and no notices; the table and errors remain.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON instead of the table.")
def command(
    config: Path,
    overrides: tuple[str, ...],
    trust: tuple[str, ...],
    output: Path | None,
    log_json: Path | None,
    trackers: tuple[str, ...],
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Run the experiment of CONFIG and print its table.

    What has been computed before is taken from the store; a run that was interrupted goes on where it stopped. Results are written
    to the output directory as rows.parquet, rows.csv, rows.json and table.md, and as an HTML report, report.html.

    The exit code is 0 only if every row is valid, 1 if a stage or a row failed, 2 if the configuration or the data cannot be used.

    \b
    erasure run configs/proof_of_concept.jsonc
    erasure run configs/proof_of_concept.jsonc --seeds 0-2 --output runs/three_seeds
    erasure run configs/proof_of_concept.jsonc --set predictor.parameters.epochs=5
    """  # noqa: D301 - click's mark for lines that stay as they are
    from erasure.cli.progress import Terminal
    from erasure.workflows.run import run_experiment

    experiment = experiment_from(config, overrides, trust)
    where = output or Path("runs") / directory_name(experiment.name)
    terminal = Terminal(quiet=quiet)
    if not quiet:
        for notice in experiment.notices:
            terminal.say(f"note: {notice}")
    with listening(terminal, log_json, trackers) as listener:
        results = run_experiment(experiment, options_from(output=where, **options), listener)
    if as_json:
        click.echo(json.dumps([row.record() for row in results], ensure_ascii=False))
    else:
        overview = results.overview()
        terminal.table(results, overview)
        terminal.advice(overview)
    say_failures(results.failures)
    click.echo(f"results in {where}", err=as_json)
    if (where / "report.html").exists():
        click.echo(f"report: {where / 'report.html'}", err=as_json)
    return 0 if results.is_sound else 1


def say_failures(failures: Mapping[str, str]) -> None:
    """Tell every reason once: the stage it began with, and how many it cost beside it."""
    by_reason: dict[str, list[str]] = {}
    for stage, reason in failures.items():
        by_reason.setdefault(reason, []).append(stage)
    for reason, stages in by_reason.items():
        others = f" ({len(stages) - 1} more could not run or failed alike)" if len(stages) > 1 else ""
        click.echo(printable(f"failed: {stages[0]}: {reason}{others}"), err=True)


def directory_name(name: str) -> str:
    """A name that is one harmless directory."""
    kept = "".join(c if c.isalnum() or c in "._-" else "_" for c in name).strip(".")
    return kept[:80] or "experiment"
