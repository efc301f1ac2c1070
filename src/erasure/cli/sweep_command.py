"""``erasure sweep``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from erasure.cli.listeners import listener_options, listening
from erasure.cli.options import begin_workers, configuration_options, options_from, run_options
from erasure.cli.prose import printable
from erasure.cli.run_command import directory_name, say_failures

__all__ = ["command"]


@click.command("sweep")
@configuration_options
@run_options
@listener_options
@click.option("--output", type=click.Path(path_type=Path), help="Directory of the result files. [default: runs/NAME]")
@click.option("--dry-run", is_flag=True, help="Print the settings and run nothing.")
@click.option("--quiet", is_flag=True, help="Hide progress and notices; still print the summary and errors.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON instead of the summary.")
def command(
    config: Path,
    overrides: tuple[str, ...],
    trust: tuple[str, ...],
    output: Path | None,
    log_json: Path | None,
    trackers: tuple[str, ...],
    dry_run: bool,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Run CONFIG at every setting of its "sweep" section, as one plan.

    What settings share is computed once: a sweep over an unlearner's parameters trains one original and one gold for each seed. The
    output directory has a folder for each setting and the rows of all of them together. Exit codes are those of "erasure run".

    \b
    erasure sweep my_sweep.jsonc --dry-run
    erasure sweep my_sweep.jsonc --executor processes --train-seeds 0-4

    \b
    "sweep": {
      "over": {"unlearners[0].parameters.epochs": [1, 2, 5], "data.parameters.partitions[1].parameters.percentage": [0.1, 0.2]},
      "seeds": {"train": [0, 1, 2]}
    }
    """  # noqa: D301 - click's mark for lines that stay as they are
    if not dry_run:
        begin_workers(options)
    from erasure.cli.progress import Terminal
    from erasure.experiment.sweep_section import load_sweep
    from erasure.workflows.sweep import run_sweep

    sweep = load_sweep(config, overrides=overrides, trust=trust)
    if dry_run:
        for point in sweep.points:
            click.echo(printable(json.dumps(point.settings, ensure_ascii=False) if as_json else point.label))
        return 0
    where = output or Path("runs") / directory_name(sweep.name)
    terminal = Terminal(quiet=quiet)
    if not quiet:
        for notice in dict.fromkeys(notice for point in sweep.points for notice in point.experiment.notices):
            terminal.say(f"note: {notice}")
    with listening(terminal, log_json, trackers) as listener:
        results = run_sweep(sweep, options_from(output=where, **options), listener)
    if as_json:
        click.echo(json.dumps([row.record() for row in results], ensure_ascii=False))
    else:
        terminal.findings(results.overview())
    say_failures(results.failures)
    click.echo(f"{len(sweep.points)} settings, {len(results)} rows, results in {where}", err=as_json)
    if (where / "report.html").exists():
        click.echo(f"report: {where / 'report.html'}", err=as_json)
    return 0 if results.is_sound else 1
