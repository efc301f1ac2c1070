"""``erasure query``."""

from __future__ import annotations

import csv
import io
import json
import math
import warnings
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import click

from erasure.cli.prose import printable

__all__ = ["command"]


@click.command("query")
@click.argument("sql")
@click.argument("runs", nargs=-1, metavar="[RUNS]...")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list with one object per line.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
def command(sql: str, runs: tuple[str, ...], as_json: bool, as_csv: bool) -> int:
    """Query the rows of many runs in SQL.

    The table is called "rows"; its columns are "run" and those of rows.csv ("describe rows" lists them). RUNS are directories or
    patterns. [default: runs/**] The query, in DuckDB's dialect, can read nothing but the rows and change nothing.

    \b
    erasure query "select label, avg(value) from rows where measure = 'UMIA' group by label"
    erasure query "from rows where status = 'failed'" "runs/adult-*" --csv
    """  # noqa: D301 - click's mark for lines that stay as they are
    from erasure.reports.query import load_results

    if as_json and as_csv:
        raise click.UsageError("give --json or --csv, not both")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        table = load_results(runs or "runs/**").query(sql)
    for each in told:
        click.echo(f"{each.message}", err=True)
    header = [str(name) for name in table.column_names]
    lines = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    if as_json:
        click.echo(json.dumps([dict(zip(header, map(_plain, line), strict=True)) for line in lines], ensure_ascii=False))
    elif as_csv:
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows([header, *([_cell(value) for value in line] for line in lines)])
        click.echo(out.getvalue(), nl=False)
    else:
        click.echo(_text(header, lines))
        click.echo(f"{len(lines)} line{'' if len(lines) == 1 else 's'}", err=True)
    return 0


def _text(header: Sequence[str], lines: Sequence[Sequence[Any]]) -> str:
    numeric = [all(isinstance(line[i], int | float | Decimal | None) for line in lines) for i in range(len(header))]
    cells = [[printable(name) for name in header], *([_shown(value) for value in line] for line in lines)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    aligned = (
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width) for cell, width, number in zip(line, widths, numeric, strict=True)
        )
        for line in cells
    )
    return "\n".join(line.rstrip() for line in aligned)


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else printable(_cell(value))


def _cell(value: Any) -> str:
    """The value as text; null is empty."""
    plain = _plain(value)
    return "" if plain is None else plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """The value as JSON: whole decimals as integers, dates and all else as text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value)
