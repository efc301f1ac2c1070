"""Tables for spreadsheets, programs and papers; hostile names stay inert in each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from erasure.analysis.result_table import Cell, Line, ResultTable, TableColumn
from erasure.analysis.verdict_words import NOTHING_TO_FORGET
from erasure.durable import write_atomically
from erasure.records.csv_cells import csv_cell

__all__ = ["csv_bytes", "latex", "latex_table", "markdown", "number", "with_half", "write_tables"]

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "≠": r"$\neq$",
}
_LINE = 94
"""Characters of a line of a table in LaTeX, which a page holds without shrinking it much."""
_DIRECTIONS = {"higher": r"$\uparrow$", "lower": r"$\downarrow$"}


def csv_bytes(records: Iterable[Mapping[str, Any]]) -> bytes:
    """Records as CSV; a text that a spreadsheet would run as a formula gets an apostrophe in front."""
    records = list(records)
    header = list(dict.fromkeys(name for record in records for name in record))
    lines = [",".join(csv_cell(name) for name in header)]
    lines += [",".join(csv_cell(record.get(name)) for name in header) for record in records]
    return ("\n".join(lines) + "\n").encode("utf-8", "replace")


def number(value: float) -> str:
    """Three digits behind the point for small numbers, fewer for large ones, and a power of ten for very large ones.

    Example:
        >>> number(0.25), number(2.4e9)
        ('0.250', '2.40e+09')
    """
    size = abs(value)
    if size >= 1e6:
        return f"{value:.2e}"
    if size >= 1000:
        return f"{value:.0f}"
    if size >= 100:
        return f"{value:.1f}"
    return f"{value:.3f}" if size >= 0.0005 or not value else f"{value:.1e}"


def with_half(value: float, half: float | None, sign: str = " ± ") -> str:
    """A mean and half of its interval, both with as many decimals."""
    text = number(value)
    if half is None:
        return text
    if "e" in text:
        return f"{text}{sign}{number(half)}"
    return f"{text}{sign}{half:.{len(text.partition('.')[2])}f}"


def markdown(table: ResultTable) -> str:
    """The table in Markdown: mean ± half interval, best bold, second in italics, ``≠`` where the value differs from retrained models."""
    header = ["model", "verdict", *(_column_title(column) for column in table.columns)]
    lines = [[line.label, line.verdict, *(_markdown_cell(c) for c in line.cells)] for line in table.lines]
    if any(column.floor is not None for column in table.columns):
        floors = ["" if c.floor is None else f"± {number(c.floor)}" for c in table.columns]
        lines.insert(_after_gold(table.lines), ["noise floor", "", *floors])
    rows = [header, ["---", "---", *("--:" for _ in table.columns)], *lines]
    text = "\n".join(
        "| " + " | ".join(_markdown_text(cell) if i < 2 else cell for i, cell in enumerate(row)) + " |" for row in rows
    )
    return f"{text}\n\n{_legend('**Bold**', '*italics*', '≠', '=', table)}\n"


def _after_gold(lines: Sequence[Line]) -> int:
    return next((i + 1 for i, line in enumerate(lines) if line.role == "gold"), 0)


def _column_title(column: TableColumn) -> str:
    return _markdown_text(f"{column.title} [{column.unit}]" if column.unit else column.title)


def _markdown_text(text: str) -> str:
    flat = " ".join(text.split())
    return flat if flat in {"---", "--:"} else re.sub(r"([\\`*_{}\[\]<>|#!~&])", r"\\\1", flat)


def _markdown_cell(cell: Cell) -> str:
    if cell.value is None:
        return _markdown_text(cell.note)
    text = with_half(cell.value, cell.half)
    text = {"best": f"**{text}**", "tie": f"**{text}** =", "second": f"*{text}*"}.get(cell.mark, text)
    return f"{text} ≠" if cell.is_apart else text


def _legend(best: str, second: str, apart: str, tie: str, table: ResultTable) -> str:
    n, level = table.n, f"{100 * table.level:.2g} %"
    mean = f"Mean ± half of its 95 % interval over {n} repetitions. " if n > 1 else ""
    return (
        f"{mean}{best}: closest to retraining in its column, or the cheapest; {tie} marks those that tie with it because neither is told "
        f"from retrained models; {second}: second. {apart}: differs from retrained models (p at most {level}, over all values and methods) "
        "and comes after all that do not. "
        "Retraining itself, and methods that failed, changed nothing or did damage, do not compete."
        f"{f' {NOTHING_TO_FORGET}' if table.has_nothing_to_forget else ''}"
    )


def latex(text: str) -> str:
    """Text with nothing left that LaTeX would carry out; what plain LaTeX has no letter for becomes ``?``."""
    flat = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return "".join(_LATEX.get(c, c if ord(c) < 0x250 else "?") for c in flat)


def latex_table(table: ResultTable, caption: str = "", label: str = "tab:results") -> str:
    r"""The table for a paper; needs ``\usepackage{booktabs,graphicx}``. One with too many columns to be read becomes several.

    Args:
        table: The table.
        caption: What stands in front of the legend.
        label: For ``\ref``; further tables get ``-2`` and so on.
    """
    legend = (
        _legend(r"\textbf{Bold}", r"\underline{underlined}", r"$\neq$", r"$=$", table).replace("±", r"$\pm$").replace("%", r"\%")
    )
    name = f"{latex(caption)} " if caption else ""
    parts = []
    for number_, chosen in enumerate(_fitting(table)):
        text = f"{name}{legend}" if number_ == 0 else f"{name}Continued; marks as in table~\\ref{{{_label(label)}}}."
        has_verdicts = number_ == 0 and any(line.verdict for line in table.lines)
        parts.append(_latex_part(table, chosen, text, _label(label) + (f"-{number_ + 1}" if number_ else ""), has_verdicts))
    return "% \\usepackage{booktabs,graphicx}\n" + "\n".join(parts)


def _fitting(table: ResultTable) -> list[list[int]]:
    """Columns of each part of a table that is too wide for a page; at least one part."""
    first = max([len("noise floor"), *(len(line.label) for line in table.lines)])
    parts: list[list[int]] = [[]]
    used = first + max((2 + len(line.verdict) for line in table.lines), default=0)
    for i, column in enumerate(table.columns):
        cells = [line.cells[i] for line in table.lines]
        widest = max((len(with_half(c.value, c.half)) + 2 * c.is_apart for c in cells if c.value is not None), default=6)
        follows = bool(parts[-1]) and table.columns[parts[-1][-1]].measure == column.measure
        width = 2 + max(widest, len(column.partition) + len(column.unit) + 3, 0 if follows else len(column.measure))
        if parts[-1] and used + width > _LINE:
            parts.append([])
            used = first
        parts[-1].append(i)
        used += width
    return parts


def _label(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9:.-]", "-", text)


def _latex_part(table: ResultTable, chosen: Sequence[int], caption: str, label: str, has_verdicts: bool) -> str:
    """Some columns as a table of their own, that of the verdicts before them if wanted."""
    columns = [table.columns[i] for i in chosen]
    measures: list[tuple[str, int]] = []
    for column in columns:
        if measures and measures[-1][0] == column.measure:
            measures[-1] = (column.measure, measures[-1][1] + 1)
        else:
            measures.append((column.measure, 1))
    groups, rules, at = [], [], 3 if has_verdicts else 2
    for measure, n in measures:
        groups.append(rf"\multicolumn{{{n}}}{{c}}{{{latex(measure)}}}")
        rules.append(rf"\cmidrule(lr){{{at}-{at + n - 1}}}")
        at += n
    seconds = [
        " ".join(part for part in (latex(c.partition), latex(f"[{c.unit}]") if c.unit else "", _arrow(c)) if part)
        for c in columns
    ]

    def with_verdict(verdict: str) -> list[str]:
        return [latex(verdict)] if has_verdicts else []

    body = [
        [latex(line.label), *with_verdict(line.verdict), *(_latex_cell(line.cells[i]) for i in chosen)] for line in table.lines
    ]
    floors = [["noise floor", *with_verdict(""), *("" if c.floor is None else rf"$\pm$ {number(c.floor)}" for c in columns)]]
    first = _after_gold(table.lines)
    head, tail = body[:first], body[first:]
    if any(column.floor is not None for column in columns):
        head += floors
    text = [
        r"\begin{table}",
        r"\centering",
        r"\small",
        rf"\caption{{{caption}}}",
        r"\vspace{4pt}",
        rf"\label{{{label}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{'ll' if has_verdicts else 'l'}{'r' * len(columns)}}}",
        r"\toprule",
        _latex_line(["", *with_verdict(""), *groups]),
        " ".join(rules),
        _latex_line(["model", *with_verdict("verdict"), *seconds]),
        r"\midrule",
        *(_latex_line(line) for line in head),
        *([r"\midrule"] if head and tail else []),
        *(_latex_line(line) for line in tail),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(text) + "\n"


def _arrow(column: TableColumn) -> str:
    return "" if column.gold is not None else _DIRECTIONS.get(column.direction, "")


def _latex_line(cells: Sequence[str]) -> str:
    # The end of the line before would take a bracket or a star for its own.
    guard = "{}" if cells[0].startswith(("[", "*")) else ""
    return guard + " & ".join(cells) + r" \\"


def _latex_cell(cell: Cell) -> str:
    if cell.value is None:
        return latex(cell.note)
    text = _latex_number(with_half(cell.value, cell.half, r" $\pm$ "))
    text = {"best": rf"\textbf{{{text}}}", "tie": rf"\textbf{{{text}}}$^{{=}}$", "second": rf"\underline{{{text}}}"}.get(
        cell.mark, text
    )
    return rf"{text}\,$\neq$" if cell.is_apart else text


def _latex_number(text: str) -> str:
    """With a true minus sign, and powers of ten as such."""
    text = re.sub(r"(\d\.\d+)e([+-])0?(\d+)", lambda m: rf"{m[1]}$\cdot 10^{{{'-' if m[2] == '-' else ''}{m[3]}}}$", text)
    return re.sub(r"(?<![\w{^])-(?=\d)", "$-$", text)


def write_tables(
    table: ResultTable, directory: Path, *, caption: str = "", parts: Sequence[tuple[str, ResultTable]] = ()
) -> list[Path]:
    """Write ``results.csv``, ``results.parquet``, ``results.md`` and ``results.tex``.

    Args:
        table: The table.
        directory: Where to.
        caption: What the table in LaTeX is called.
        parts: Of a sweep over several problems, the name and the table of each, which are written instead of ``table``.

    Raises:
        StoreError: If a file cannot be written.
    """
    import pyarrow
    import pyarrow.parquet

    records = table.records()
    words, paper = markdown(table), latex_table(table, caption)
    if parts:
        records = [{"problem": name} | record for name, part in parts for record in part.records()]
        words = "\n".join(f"## {_markdown_text(name)}\n\n{markdown(part)}" for name, part in parts)
        paper = "\n".join(latex_table(part, f"{caption} {name}.", f"tab:results-{i}") for i, (name, part) in enumerate(parts, 1))
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({n: [r[n] for r in records] for n in (records[0] if records else {})}), sink)
    contents = {
        "results.csv": csv_bytes(records),
        "results.parquet": bytes(sink.getvalue().to_pybytes()),
        "results.md": words.encode(),
        "results.tex": paper.encode(),
    }
    for name, content in contents.items():
        write_atomically(Path(directory) / name, content)
    return [Path(directory) / name for name in contents]
