"""The summary table: a line for each model, a column for each measure, with gap and interval."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from erasure.analysis.verdict_words import NOTHING_TO_FORGET
from erasure.analysis.verdicts import Judged, Verdict
from erasure.records.originals import original_of
from erasure.records.rows import Row

__all__ = ["SummaryTable", "html_table", "markdown_table", "summarise", "text_table", "text_tables"]

_SHOWN = {"failed": "failed", "non-finite": "not finite"}
_SOUND = frozenset({"ok", "indistinguishable", "over-forgotten"})


@dataclass(frozen=True)
class SummaryTable:
    """Text cells of a table.

    Args:
        header: Title of each column.
        lines: Cells of each line.
        notes: Sentences below the table.
    """

    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...]


def summarise(rows: Iterable[Row], judged: Judged | None = None) -> SummaryTable:
    """Rows as a table: mean over repetitions, half of the interval after ``±``, a star where the value differs from retrained models.

    Args:
        rows: Rows of the models to show.
        judged: Verdicts on methods; without them, none are shown.
    """
    rows = list(rows)
    judged = judged if judged is not None else Judged()
    # An untrusted name may hold a line break or a pipe; cells are made safe where they are printed.
    models: dict[tuple[str, str], dict[tuple[str, str], list[Row]]] = {}
    columns: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        models.setdefault((row.model_role, row.label), {}).setdefault((row.measure, row.partition), []).append(row)
        columns.setdefault((row.measure, row.partition), []).append(row)
    verdicts = {each.label: each for each in judged.verdicts}
    flagged = any(model == "unlearned" and label in verdicts for model, label in models)
    floors = [_floor(column) for column in columns.values()]
    lines = []
    for (model, label), own in models.items():
        verdict = verdicts.get(label) if model == "unlearned" else None
        title = verdict.title if verdict is not None and not verdict.is_exact else ""
        cells = (_cell(own.get(column, []), _is_apart(verdict, column, judged)) for column in columns)
        lines.append((label, *([title] if flagged else []), *cells))
        if model == "gold" and any(floors):
            lines.append(("noise floor", *([""] if flagged else []), *floors))
    header = ("model", *(["verdict"] if flagged else []), *(_title(*name, column[0].unit) for name, column in columns.items()))
    return SummaryTable(header, tuple(lines), _notes(rows, judged, lines))


def _floor(column: Sequence[Row]) -> str:
    """How far golds of other seeds are apart by a measure; the mean over repetitions."""
    floors = {original_of(row): row.noise_floor for row in column if row.noise_floor is not None}
    return f"± {_number(math.fsum(floors.values()) / len(floors))}" if floors else ""


def _title(measure: str, partition: str, unit: str) -> str:
    return " ".join(part for part in (measure, partition, f"[{unit}]" if unit else "") if part)


def _cell(rows: Sequence[Row], is_apart: bool) -> str:
    values = [row.value for row in rows if row.value is not None]
    if not values:
        return _SHOWN.get(rows[0].status, rows[0].status) if rows else ""
    text = _number(math.fsum(values) / len(values))
    low, high = rows[0].low, rows[0].high
    if len(values) > 1 and low is not None and high is not None:
        text += f" ± {_number((high - low) / 2)}"
    return f"{text} *" if is_apart else text


def _is_apart(verdict: Verdict | None, column: tuple[str, str], judged: Judged) -> bool:
    """Whether a method is told from retrained models by a value."""
    tested = verdict.tested if verdict is not None else None
    found = tested.difference(*column) if tested is not None else None
    return tested is not None and found is not None and tested.is_told_by(found, judged.report.level)


def _number(value: float) -> str:
    size = abs(value)
    if value == int(value) and size < 1e6 and size >= 10:
        return str(int(value))
    return f"{value:.3f}" if size < 100 else f"{value:.1f}" if size < 1e6 else f"{value:.2e}"


def _notes(rows: Sequence[Row], judged: Judged, lines: Sequence[Sequence[str]]) -> tuple[str, ...]:
    notes = []
    if any(cell.endswith(" *") for line in lines for cell in line):
        notes.append(
            f"* differs from retrained models (p at most {100 * judged.report.level:.2g} % over all values and methods together)"
        )
    n = max((row.n or 1 for row in rows), default=1)
    if n > 1:
        notes.append(f"± half of the 95 % Student-t interval of the mean over {n} repetitions")
    notes += judged.report.notices
    reasons = dict.fromkeys(f"{row.label}: {row.reason}" for row in rows if row.reason and row.status not in _SOUND)
    return (*notes, *reasons)


def markdown_table(rows: Iterable[Row], judged: Judged | None = None) -> str:
    """The summary as a Markdown table; names cannot break out of their cells."""
    table = summarise(rows, judged)
    if not table.lines:
        return "There are no results.\n"
    lines = [
        table.header,
        tuple("---" if i == 0 or title == "verdict" else "--:" for i, title in enumerate(table.header)),
        *table.lines,
    ]
    text = "\n".join("| " + " | ".join(_markdown(cell) for cell in line) + " |" for line in lines)
    nothing = (NOTHING_TO_FORGET,) if judged is not None and judged.report.has_nothing_to_forget else ()
    notes = "".join(f"\n- {_markdown(note)}" for note in (*table.notes, *nothing))
    return f"{text}\n{notes}\n" if notes else f"{text}\n"


def html_table(rows: Iterable[Row], judged: Judged | None = None) -> str:
    """The summary as an HTML table; everything in it is text, whatever names look like."""
    table = summarise(rows, judged)
    if not table.lines:
        return "<p>There are no results.</p>"
    head = "".join(f'<th scope="col">{html.escape(title)}</th>' for title in table.header)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in table.lines)
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in table.notes)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{notes}"


def _markdown(cell: str) -> str:
    flat = " ".join(cell.split())
    for character in ("\\", "|", "<", "`", "["):
        flat = flat.replace(character, f"\\{character}")
    return (
        flat.replace("\\[", "[").replace(" *", " \\*")
        if flat.count("[") == 1 and flat.endswith("]")
        else flat.replace(" *", " \\*")
    )


def text_table(rows: Iterable[Row], judged: Judged | None = None) -> str:
    """The summary in plain text, columns aligned."""
    return text_tables(rows, None, judged)


def text_tables(rows: Iterable[Row], width: int | None, judged: Judged | None = None) -> str:
    """The summary in plain text; columns that do not fit into ``width`` characters go into further tables below."""
    table = summarise(rows, judged)
    if not table.lines:
        return "There are no results."
    lines = [tuple(_plain(cell) for cell in line) for line in (table.header, *table.lines)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.header))]
    parts = ["\n".join(_aligned(line, widths, columns) for line in lines) for columns in _fitted(widths, width)]
    return "\n".join(["\n\n".join(parts), *(_plain(note) for note in table.notes)])


def _fitted(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """Columns of each table; the first column, the models, leads every one of them."""
    tables: list[list[int]] = [[0]]
    used = widths[0]
    for column, size in enumerate(widths[1:], start=1):
        if width is not None and used + 2 + size > width and len(tables[-1]) > 1:
            tables.append([0])
            used = widths[0]
        tables[-1].append(column)
        used += 2 + size
    return tables


def _aligned(line: Sequence[str], widths: Sequence[int], columns: Sequence[int]) -> str:
    cells = [line[i].ljust(widths[i]) if i == 0 else line[i].rjust(widths[i]) for i in columns]
    return "  ".join(cells).rstrip()


def _plain(cell: str) -> str:
    """One line without control characters, which a hostile name could steer the terminal with."""
    return "".join(c for c in " ".join(cell.split()) if c.isprintable())
