"""``erasure run``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from erasure.cli.listeners import listener_options, listening
from erasure.cli.options import begin_workers, configuration_options, experiment_from, looks_option, options_from, run_options
from erasure.cli.prose import printable
from erasure.records.collection import importing

if TYPE_CHECKING:
    from erasure.cli.progress import Terminal
    from erasure.reports.results import Results

__all__ = ["command", "directory_name", "say_failures"]


@click.command("run")
@configuration_options
@run_options
@looks_option
@listener_options
@click.option("--output", type=click.Path(path_type=Path), help="Directory of the result files. [default: runs/NAME]")
@click.option("--quiet", is_flag=True, help="Hide progress and notices; still print the table and errors.")
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

    What has been computed before is taken from the store; an interrupted run resumes where it stopped. Results are written
    to the output directory as rows.parquet, rows.csv, rows.json and table.md, and as an HTML report, report.html.

    The exit code is 0 only if every row is valid, 1 if a stage or a row failed, 2 if the configuration or the data cannot be used.

    \b
    erasure run configs/proof_of_concept.jsonc
    erasure run configs/proof_of_concept.jsonc --seeds 0-2 --output runs/three_seeds
    erasure run configs/proof_of_concept.jsonc --set predictor.parameters.epochs=5
    """  # noqa: D301 - click's mark for lines that stay as they are
    from erasure.cli.progress import Terminal
    from erasure.workflows.finished_runs import asked

    terminal = Terminal(quiet=quiet)
    is_plain = not (trust or trackers or log_json is not None)
    given = asked(config, overrides, {"output": output, **options}) if is_plain else None
    results, where = _run_again(given, terminal) or _run(
        config, overrides, trust, output, log_json, trackers, terminal, given, options
    )
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


def _run_again(given: Mapping[str, Any] | None, terminal: Terminal) -> tuple[Results, Path] | None:
    """The results of the run that is asked for, if it was finished before and nothing has changed."""
    from erasure.reports.results import Results
    from erasure.workflows.finished_runs import finished_run

    found = None if given is None else finished_run(given)
    if given is None or found is None:
        return None
    for notice in found.notices:
        terminal.say(f"note: {notice}")
    for said in found.replies():
        terminal.listen(said)
    where = given["output"] or Path(found.output).relative_to(Path.cwd())
    return Results.load(where), where


def _run(
    config: Path,
    overrides: tuple[str, ...],
    trust: tuple[str, ...],
    output: Path | None,
    log_json: Path | None,
    trackers: tuple[str, ...],
    terminal: Terminal,
    given: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> tuple[Results, Path]:
    begin_workers(options)
    with importing():
        from erasure.workflows.finished_runs import digested, remember
        from erasure.workflows.run import run_experiment

        experiment = experiment_from(config, overrides, trust)
    where = output or Path("runs") / directory_name(experiment.name)
    for notice in experiment.notices:
        terminal.say(f"note: {notice}")
    with listening(terminal, log_json, trackers) as listener, digested() as digests:
        results = run_experiment(experiment, options_from(output=where, **options), listener)
    if given is not None:
        remember(config, overrides, given, experiment=experiment, results=results, digests=digests)
    return results, where


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
