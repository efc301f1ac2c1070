"""The table of results as numbers: each model, each measure, with gold, gap, floor, interval, and which are best."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from erasure.analysis.findings import Difference, Finding
from erasure.analysis.gaps import EPSILON
from erasure.analysis.power import LEVEL
from erasure.analysis.verdicts import Judged, Verdict
from erasure.records.rows import Row

__all__ = ["Cell", "Line", "ResultTable", "TableColumn", "result_table"]

_UNRANKED = frozenset({Finding.NO_OP, Finding.FAILED, Finding.DAMAGED})
_SHOWN = {"failed": "failed", "non-finite": "not finite"}


@dataclass(frozen=True)
class TableColumn:
    """A measure on a partition.

    Args:
        measure: The measure.
        partition: What it was measured on.
        unit: Its unit.
        direction: ``higher``, ``lower`` or empty.
        gold: Gold's mean, if values are compared with it.
        floor: Mean noise floor.
    """

    measure: str
    partition: str
    unit: str = ""
    direction: str = ""
    gold: float | None = None
    floor: float | None = None

    @property
    def title(self) -> str:
        """Measure and partition."""
        return f"{self.measure}, {self.partition}" if self.partition else self.measure


@dataclass(frozen=True)
class Cell:
    """One model's value.

    Args:
        value: Mean over repetitions; None where there is none.
        half: Half of the 95 % interval of the mean, if there are repetitions.
        gap: Mean distance to gold.
        difference: The difference from retrained models with its p-value, where the value is compared with them.
        is_apart: Whether by this value the test tells the model from retrained ones.
        mark: ``best``, ``tie`` (neither is told from retrained models), ``second`` or empty.
        note: What is shown instead of a value.
    """

    value: float | None = None
    half: float | None = None
    gap: float | None = None
    difference: Difference | None = None
    is_apart: bool = False
    mark: str = ""
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A model.

    Args:
        label: How it is called.
        role: ``original``, ``gold`` or ``unlearned``.
        cells: One for each column.
        judgement: The verdict, for a method.
    """

    label: str
    role: str
    cells: tuple[Cell, ...]
    judgement: Verdict | None = None

    @property
    def verdict(self) -> str:
        """The verdict in words."""
        return self.judgement.title if self.judgement is not None else ""


@dataclass(frozen=True)
class ResultTable:
    """All models by all measures.

    Args:
        columns: The measures.
        lines: The models.
        n: Largest number of repetitions.
        level: P-value, over all values and methods, from which on a value differs from retrained models.
        has_nothing_to_forget: Whether the original itself is not told from retrained models.
    """

    columns: tuple[TableColumn, ...]
    lines: tuple[Line, ...]
    n: int = 1
    level: float = LEVEL
    has_nothing_to_forget: bool = False

    def records(self) -> list[dict[str, Any]]:
        """One record for each model and measure."""
        return [
            {
                "model": line.label,
                "role": line.role,
                "verdict": line.verdict,
                "measure": column.measure,
                "partition": column.partition,
                "unit": column.unit,
                "value": cell.value,
                "half_interval": cell.half,
                "gold": column.gold,
                "gap": cell.gap,
                "floor": column.floor,
                "p": cell.difference.p if cell.difference is not None else None,
                "gold_sd": cell.difference.gold_sd if cell.difference is not None else None,
                "differs": cell.is_apart,
                "mark": cell.mark,
                "note": cell.note,
            }
            for line in self.lines
            for column, cell in zip(self.columns, line.cells, strict=True)
        ]


def result_table(rows: Iterable[Row], judged: Judged) -> ResultTable:
    """Rows as a table of means; lines and columns in the order of the rows.

    Best is the smallest gap to gold, or the better value where there is no gold to compare with. Models that the value does not tell from
    retrained ones go before those that it does tell, and tie with one another. Retraining itself, and methods that failed, changed nothing
    or did damage, do not compete.
    """
    found: dict[tuple[str, str], dict[tuple[str, str], list[Row]]] = {}
    columns: dict[tuple[str, str], list[Row]] = {}
    previous: tuple[str, str] | None = None
    for row in rows:
        model = (row.model_role, row.label)
        if model != previous:  # rows of one model come one after the other, and there may be hundreds of thousands
            previous, cells = model, found.setdefault(model, {})
        key = (row.measure, row.partition)
        if key not in cells:
            cells[key] = []
            columns.setdefault(key, [])
        cells[key].append(row)
        columns[key].append(row)
    by_label = {j.label: j for j in judged.verdicts}
    described = {key: _column(*key, cell) for key, cell in columns.items()}
    lines = [
        Line(
            label,
            role,
            tuple(
                _cell(cells.get(key, ()), column, by_label.get(label) if role == "unlearned" else None, judged.report.level)
                for key, column in described.items()
            ),
            by_label.get(label) if role == "unlearned" else None,
        )
        for (role, label), cells in found.items()
    ]
    marks = [_marks(lines, number, column) for number, column in enumerate(described.values())]
    lines = [_marked(line, [each.get(position, "") for each in marks]) for position, line in enumerate(lines)]
    n = max((row.n or 1 for cells in columns.values() for row in cells), default=1)
    report = judged.report
    return ResultTable(tuple(described.values()), tuple(lines), n, report.level, report.has_nothing_to_forget)


def _column(measure: str, partition: str, rows: Sequence[Row]) -> TableColumn:
    golds = {row.seed_train: row.gold for row in rows if row.gold is not None}
    floors = {row.seed_train: row.noise_floor for row in rows if row.noise_floor is not None}
    return TableColumn(
        measure,
        partition,
        unit=next((row.unit for row in rows if row.unit), ""),
        direction=next((row.direction for row in rows if row.direction), ""),
        gold=_mean(golds.values()),
        floor=_mean(floors.values()),
    )


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return math.fsum(known) / len(known) if known else None


def _cell(rows: Sequence[Row], column: TableColumn, verdict: Verdict | None, level: float) -> Cell:
    values = [row.value for row in rows if row.value is not None]
    if not values:
        return Cell(note=_SHOWN.get(rows[0].status, rows[0].status) if rows else "")
    low, high = rows[0].low, rows[0].high
    half = (high - low) / 2 if len(values) > 1 and low is not None and high is not None else None
    if half is not None and half <= EPSILON * max(map(abs, values)):
        half = 0.0  # equal values, but for rounding
    gaps = [row.gap for row in rows if row.gap is not None]
    gap = _mean(gaps)
    tested = verdict.tested if verdict is not None else None
    difference = tested.difference(column.measure, column.partition) if tested is not None else None
    is_apart = tested is not None and difference is not None and tested.is_told_by(difference, level)
    return Cell(_mean(values), half, gap, difference, is_apart)


def _marks(lines: Sequence[Line], number: int, column: TableColumn) -> dict[int, str]:
    """The mark of each line that has one in a column."""
    sign = {"higher": -1.0, "lower": 1.0}.get(column.direction)
    scores: dict[int, float] = {}
    for position, line in enumerate(lines):
        cell = line.cells[number]
        if not _competes(line) or cell.value is None:
            continue
        if cell.gap is not None:
            scores[position] = cell.gap
        elif column.gold is None and sign is not None:
            scores[position] = sign * cell.value
    if not scores:
        return {}
    within = {i for i in scores if _is_like_gold(lines[i].cells[number])}
    best = min(score for i, score in scores.items() if not within or i in within)
    if column.gold is None and best == 0:
        return {}  # nothing was needed, which is no merit
    firsts = {i for i, score in scores.items() if score <= best + EPSILON and (not within or i in within)}
    ties = within - firsts
    rest = {i: score for i, score in scores.items() if i not in firsts and i not in ties}
    second = min(rest.values(), default=0.0)
    seconds = {i for i, score in rest.items() if score <= second + EPSILON}
    return {i: mark for mark, those in (("best", firsts), ("tie", ties), ("second", seconds)) for i in those}


def _marked(line: Line, marks: Sequence[str]) -> Line:
    if not any(marks):
        return line
    cells = (replace(cell, mark=mark) if mark else cell for cell, mark in zip(line.cells, marks, strict=True))
    return replace(line, cells=tuple(cells))


def _is_like_gold(cell: Cell) -> bool:
    """Whether the value was tested and does not tell the model from retrained ones."""
    return cell.difference is not None and cell.difference.p is not None and not cell.is_apart


def _competes(line: Line) -> bool:
    verdict = line.judgement
    return line.role == "unlearned" and verdict is not None and not verdict.is_exact and verdict.finding not in _UNRANKED
