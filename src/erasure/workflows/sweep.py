"""Sweeps: one configuration at many settings, as one plan, so that what they share is computed once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from erasure.analysis.overview import overview_of
from erasure.durable import owned, write_atomically
from erasure.events import Listener, ignore_events
from erasure.experiment.sweep_section import Sweep
from erasure.records.output_folder import check_output
from erasure.records.run_folder import RunFolder
from erasure.records.sweep_folder import POINTS_FILE
from erasure.reports.page import PAGE_FILE
from erasure.reports.results import Results
from erasure.workflows.options import RunOptions
from erasure.workflows.run import merged_failures, report_page, run_experiments, save, write_judged

__all__ = ["run_sweep"]


def run_sweep(sweep: Sweep, options: RunOptions, listener: Listener = ignore_events) -> Results:
    """Run every setting; rows carry the setting in their experiment's name.

    The output directory has a folder for each setting, ``points.json``, the rows of all of them together and an HTML report.

    Raises:
        As :func:`~erasure.workflows.run.run_experiment`.
    """
    if options.output is not None:
        check_output(options.output, sweep.name, "sweep")
    if not options.axes:
        options = replace(options, axes=sweep.axes)
    folders = _folders(sweep, options.output)
    wanted = [
        (replace(point.experiment, name=f"{sweep.name} ({point.label})" if point.label else sweep.name), folder)
        for point, folder in zip(sweep.points, folders, strict=True)
    ]
    found = run_experiments(wanted, replace(options, report=False), listener)
    together = Results(
        rows=tuple(row for results in found for row in results.rows),
        failures=merged_failures([(experiment.name, results) for (experiment, _), results in zip(wanted, found, strict=True)]),
        output=options.output,
        jury=tuple(row for results in found for row in results.jury),
    )
    if options.output is not None:
        with owned(options.output, waits=True):
            save(together, options.output)
            record = [
                {"folder": folder.name if folder else None, "label": point.label, "settings": dict(point.settings)}
                for point, folder in zip(sweep.points, folders, strict=True)
            ]
            write_atomically(options.output / POINTS_FILE, json.dumps(record, indent=1).encode())
            write_judged(overview_of(RunFolder.load(options.output)), options.output)
            (options.output / PAGE_FILE).unlink(missing_ok=True)
            if options.report:
                report_page(options.output, listener)
    return together


def _folders(sweep: Sweep, output: Path | None) -> list[Path | None]:
    width = len(str(len(sweep.points) - 1))
    return [None if output is None else output / "points" / f"{number:0{width}}" for number in range(len(sweep.points))]
