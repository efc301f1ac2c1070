"""``erasure show``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click

from erasure.cli.prose import printable
from erasure.errors import ConfigError, Diagnostic, nearest

__all__ = ["command"]


@click.command("show")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--rows", is_flag=True, help="Print one line per row instead of the summary.")
@click.option("--measure", help="Only rows of this measure.")
@click.option("--label", help="Only rows of this model: original, gold or an unlearner's label.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON.")
def command(run: Path, rows: bool, measure: str | None, label: str | None, as_json: bool) -> int:
    """Print the results in the directory RUN of an earlier run.

    \b
    erasure show runs/proof_of_concept
    erasure show runs/proof_of_concept --measure UMIA --rows
    """  # noqa: D301 - click's mark for lines that stay as they are
    _check_is_run(run)
    from erasure.reports.results import Results
    from erasure.reports.table import text_tables

    results = Results.load(run)
    found = [
        row
        for row in results
        if (measure is None or row.measure.casefold() == measure.casefold())
        and (label is None or row.label.casefold() == label.casefold())
    ]
    if as_json:
        click.echo(json.dumps([row.record() for row in found], ensure_ascii=False))
    elif rows:
        for row in found:
            value = "" if row.value is None else f"{row.value:.6g}"
            gap = "" if row.gap is None else f"  gap {row.gap:.4g}"
            floor = "" if row.noise_floor is None else f"  floor {row.noise_floor:.4g}"
            reason = f"  ({row.reason})" if row.reason else ""
            line = f"{row.label}  {row.measure} {row.partition}  {value} {row.unit}{gap}{floor}  {row.status}{reason}"
            click.echo(printable(line))
    else:
        click.echo(text_tables(found, shutil.get_terminal_size((160, 24)).columns, results.overview().judged))
    return 0


def _check_is_run(directory: Path) -> None:
    if (directory / "rows.parquet").exists():
        return
    runs = [str(path.parent) for beside in (directory.parent, Path("runs")) for path in sorted(beside.glob("*/rows.parquet"))]
    hint = nearest(str(directory), runs) or (f"there are {', '.join(runs[:10])}" if runs else "")
    raise ConfigError([Diagnostic(f'there are no results in "{directory}": it has no file rows.parquet', hint=hint, kind="data")])
