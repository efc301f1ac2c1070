"""The report: one HTML file that opens from the disk, without network or server."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from erasure.analysis.certainty import Estimate
from erasure.analysis.overview import Overview, overview_of
from erasure.analysis.power import LEVEL
from erasure.analysis.result_table import Cell, Line, ResultTable, TableColumn
from erasure.analysis.verdicts import RULE, Verdict
from erasure.durable import write_atomically
from erasure.records.collection import uncollected
from erasure.records.evidence import MeasureRecord, ModelRecord, RunRecord
from erasure.records.run_folder import RunFolder
from erasure.reports.exports import number, with_half
from erasure.reports.figures.figure import Figure
from erasure.reports.figures.of_run import figures_across, figures_of, part_figures
from erasure.reports.figures.render import inline_svg, is_small
from erasure.reports.figures.theme import VERDICT_MARKS
from erasure.reports.templating import render, template_text

__all__ = ["PAGE_FILE", "page", "write_page"]

PAGE_FILE = "report.html"
_STATIC_LINES = 200
"""Models whose lines are in the page itself; of more, the script draws one page at a time."""
_MAX_LINES = 5000
_MAX_CELLS = 100_000
"""Cells of the table in the page; of more, the best models'."""
_MAX_VERDICTS = 300
_MAX_PARTS = 5
"""Problems of a sweep that are shown in full; of all of them the page says what to do."""
_MAX_SAMPLED = 12
_FIRST_VERDICTS = 20
_ALIKE = 3
"""Methods with the same verdict, from which on what they share is said once."""
_LONG_NAME = 24
_ROUNDING = 1e-12
_MAX_SEEDS = 50
_MAX_RECORDS = 500
"""Records of a figure's data that the page shows; the export has all."""


def write_page(
    directory: Path | str,
    output: Path | None = None,
    *,
    samples: Sequence[Mapping[str, Any]] = (),
    overview: Overview | None = None,
) -> Path:
    """Write the report of a run.

    Args:
        directory: The run's folder.
        output: The file; by default ``report.html`` in the folder.
        samples: Forgotten samples to show, personal data perhaps; none by default.
        overview: The run, judged, if it is at hand.

    Returns:
        Where it was written.

    Raises:
        MissingDependency: If what it is made with is not installed.
        StoreError: If there are no results, or the file cannot be written.
    """
    path = output or Path(directory) / PAGE_FILE
    with uncollected():
        text = page(overview or overview_of(RunFolder.load(directory)), samples=samples)
    write_atomically(path, text.encode("utf-8", "replace"))
    return path


def page(overview: Overview, *, samples: Sequence[Mapping[str, Any]] = ()) -> str:
    """The report as HTML.

    Raises:
        MissingDependency: If what it is made with is not installed.
    """
    script = template_text("report.js")
    return render(
        "report.html.j2",
        "making a report",
        filters={"number": number},
        title=overview.folder.name,
        overview=overview,
        problems=[_problem(name, part) for name, part in overview.parts or (("", overview),)],
        parts=_parts(overview),
        across=_sections(figures_across(overview))["cost"] if overview.parts else [],
        record=overview.folder.record,
        failures=_failures(overview.folder.record),
        n_first=_FIRST_VERDICTS,
        rule=RULE,
        design=_design(overview),
        seeds=_seeds(overview.folder.record.seeds),
        settings=[setting.label for setting in overview.folder.record.sweep],
        samples=bool(samples),
        has_images=any(sample["image"] for sample in samples),
        samples_by_id={sample["id"]: sample for sample in samples},
        style=template_text("report.css"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        canonical=json.dumps(overview.folder.record.canonical, indent=1, ensure_ascii=False),
        pretty_number=_text,
        plain=_plain,
        pretty=lambda value: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False),
    )


def _problem(name: str, overview: Overview) -> dict[str, Any]:
    """What to do about one problem, for the first screen."""
    nearest = overview.advice.named
    return {
        "name": name,
        "headline": overview.headline,
        "recommendation": overview.recommendation,
        "nearest": nearest,
        "nearest_colour": VERDICT_MARKS[nearest.finding][0] if nearest is not None else "",
        "about": overview.folder.model(nearest.label) if nearest is not None else None,
        "sure": overview.certainty.in_short if overview.best is not None else "",
    }


def _parts(overview: Overview) -> list[dict[str, Any]]:
    """Everything about each problem; nearly always there is one."""
    if not overview.parts:
        return [_part("", "", overview, _sections(figures_of(overview)))]
    return [
        _part(
            f"-{number + 1}",
            name,
            part,
            _sections(part_figures(overview, number)),
        )
        for number, (name, part) in enumerate(overview.parts[:_MAX_PARTS])
    ]


def _promises(overview: Overview) -> list[dict[str, Any]]:
    """What each method promises by proof, what its requests need and cost, and what is kept for them; nothing of runs without it."""
    first: dict[str, ModelRecord] = {}
    for model in overview.folder.models:
        if model.role == "unlearned" and model.access and not model.failed:
            first.setdefault(model.label, model)
    return [
        {
            "label": label,
            "guarantee": model.guarantee or "none",
            "assumptions": model.assumptions,
            "access": model.access,
            "request": _seconds(model.elapsed_s),
            "before": _seconds(model.precompute_s or None),
            "kept": f"{model.kept_bytes / 2**20:.3g} MiB" if model.kept_bytes else "–",
        }
        for label, model in ((label, first[label]) for label in overview.order if label in first)
    ]


def _seconds(value: float | None) -> str:
    return f"{value:.3g} s" if value is not None else "–"


def _part(end: str, name: str, overview: Overview, sections: Mapping[str, Any]) -> dict[str, Any]:
    shared = _shared_reasons(overview.verdicts)
    return {
        "end": end,
        "name": name,
        "headline": overview.headline,
        "nearest": overview.advice.named,
        "record": overview.folder.record,
        "verdicts": [_verdict(verdict, shared.get(verdict.title, ())) for verdict in overview.verdicts[:_MAX_VERDICTS]],
        "shared_reasons": shared,
        "promises": _promises(overview),
        "long_names": any(len(verdict.label) > _LONG_NAME for verdict in overview.verdicts),
        "n_verdicts": len(overview.verdicts),
        "table": _table(overview, end),
        "certainty": _certainty(overview),
        "figures": sections,
        "sampled": [verdict.label for verdict in overview.verdicts if not verdict.is_exact][:_MAX_SAMPLED],
    }


def _seeds(repetitions: Sequence[Mapping[str, int]]) -> str:
    """Seeds in words: roots where all axes follow them, else the seeds of each axis."""
    if all(len(set(seeds.values())) == 1 for seeds in repetitions):
        return _some([str(seeds["train"]) for seeds in repetitions])
    axes = {axis: list(dict.fromkeys(seeds[axis] for seeds in repetitions)) for axis in repetitions[0]}
    return "; ".join(f"{axis} {_some(list(map(str, values)))}" for axis, values in axes.items())


def _some(words: Sequence[str]) -> str:
    more = len(words) - _MAX_SEEDS
    return ", ".join(words[:_MAX_SEEDS]) + (f" and {more} more" if more > 0 else "")


def _design(overview: Overview) -> list[str]:
    """What was tested, and what it would have found, of each problem."""
    found = []
    for name, part in overview.parts or [("", overview)]:
        report = part.judged.report
        tested = next((each for each in report.methods.values() if each.basis), None)
        if tested is None:
            continue
        n = len(tested.differences)
        by = (
            f"{tested.n_labellings:,} labellings of {tested.n_originals} {'original' if tested.n_originals == 1 else 'originals'}"
            if tested.basis == "labellings"
            else "t-tests, which assume that values of retrained models are normally distributed"
        )
        power = (
            f"; a shift of {report.shift:.1f} standard deviations of one value is found in 80 % of cases" if report.shift else ""
        )
        start = f"{name}: " if name else ""
        methods = f"{report.n_tested} {'method' if report.n_tested == 1 else 'methods'}"
        at = f" at a level of {100 * report.level:.2g} %" if report.level != LEVEL else ""
        found.append(f"{start}{methods} and {n} values were tested{at} by {by}{power}.")
    return found


def _failures(evidence: RunRecord) -> list[dict[str, Any]]:
    """Stages that failed for one reason together; the first one is the cause."""
    grouped: dict[str, dict[str, Any]] = {}
    for failure in evidence.failures:
        grouped.setdefault(failure.reason, {"stage": failure.stage, "reason": failure.reason, "n": 0})["n"] += 1
    return list(grouped.values())


def _shared_reasons(verdicts: Sequence[Verdict]) -> dict[str, list[str]]:
    """By title, the reasons that all of several verdicts give: they are said once, above the list."""
    alike: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        alike.setdefault(verdict.title, []).append(verdict)
    found = {
        title: [reason for reason in some[0].reasons if all(reason in each.reasons for each in some)]
        for title, some in alike.items()
        if len(some) >= _ALIKE
    }
    return {title: reasons for title, reasons in found.items() if reasons}


def _verdict(verdict: Verdict, shared: Sequence[str]) -> dict[str, Any]:
    own = [reason for reason in verdict.reasons if reason not in shared]
    if not own and math.isfinite(verdict.distance):
        own = [f"{verdict.distance:.1f} standard deviations of a retrained model away on average."]
    return {
        "label": verdict.label,
        "title": verdict.title,
        "colour": VERDICT_MARKS[verdict.finding][0],
        "evidence": own,
        "cost": verdict.cost,
        "is_exact": verdict.is_exact,
    }


# Table


def _table(overview: Overview, end: str) -> dict[str, Any]:
    table, measures = overview.table, overview.folder.record.measures
    place = {label: i for i, label in enumerate(overview.order)}
    lines = sorted(table.lines, key=lambda line: (line.role == "unlearned", place.get(line.label, -1)))
    n_kept = min(len(lines), _MAX_LINES, max(_STATIC_LINES, _MAX_CELLS // max(1, len(table.columns))))
    return {
        "columns": [
            _column(f"column{end}-{i}", column, measures.get(column.measure, MeasureRecord()))
            for i, column in enumerate(table.columns)
        ],
        "lines": [_line(table, line) for line in lines[:_STATIC_LINES]],
        "data": _json([_brief(_line(table, line)) for line in lines[:n_kept]]) if len(lines) > _STATIC_LINES else None,
        "n": len(lines),
        "level": f"{100 * table.level:.2g}",
        "n_kept": n_kept,
        "repetitions": table.n,
        "verdicts": list(dict.fromkeys(verdict.title for verdict in overview.verdicts)),
    }


def _json(value: Any) -> str:
    """JSON for a script element, which no text inside can end."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _column(identifier: str, column: TableColumn, described: MeasureRecord) -> dict[str, Any]:
    direction = {"higher": "Higher is better.", "lower": "Lower is better."}.get(column.direction, "")
    if column.gold is not None:
        direction = f"Best is the retrained model's value, {number(column.gold)}" + (
            f"; further retrained models are up to {number(column.floor)} from it." if column.floor is not None else "."
        )
    parts = (described.answers, described.summary, direction)
    return {
        "id": identifier,
        "title": column.title,
        "unit": column.unit,
        "gold": None if column.gold is None else number(column.gold),
        "floor": None if column.floor is None else number(column.floor),
        "help": " ".join(_plain(part) for part in parts if part) or column.title,
    }


def _plain(text: str) -> str:
    """Documentation without its markup."""
    for mark in ("``", ":class:", ":math:", ":func:"):
        text = text.replace(mark, "")
    return text.replace("`", "")


def _line(table: ResultTable, line: Line) -> dict[str, Any]:
    colour = VERDICT_MARKS[line.judgement.finding][0] if line.judgement is not None else ""
    cells = [_cell(cell, column) for cell, column in zip(line.cells, table.columns, strict=True)]
    return {"label": line.label, "role": line.role, "verdict": line.verdict, "colour": colour, "cells": cells}


def _cell(cell: Cell, column: TableColumn) -> dict[str, Any]:
    if cell.value is None:
        return {"text": cell.note, "sort": "", "more": "", "mark": ""}
    text = with_half(cell.value, cell.half)
    gap = f"gap {number(cell.gap)}" if cell.gap is not None and cell.gap > _ROUNDING else ""
    mark = " ".join(part for part in (cell.mark, "apart" if cell.is_apart else "") if part)
    return {"text": text, "sort": cell.value, "more": gap, "mark": mark}


def _brief(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line whose cells are lists of text, number to sort by, gap and mark, without what is empty at the end: there may be many."""
    cells = []
    for cell in line["cells"]:
        kept = [cell["text"], float(f"{cell['sort']:.6g}") if cell["sort"] != "" else "", cell["more"], cell["mark"]]
        while kept and kept[-1] == "":
            kept.pop()
        cells.append(kept)
    return {**line, "cells": cells}


# Certainty


def _reading(estimate: Estimate) -> str:
    if estimate.difference is None:
        return ""
    if estimate.is_apart:
        return "differs, scattered to either side" if estimate.difference.is_scattered else "differs from retraining"
    return "not tested" if estimate.difference.p is None else "too small to matter" if _is_slight(estimate) else "not told apart"


def _is_slight(estimate: Estimate) -> bool:
    found = estimate.difference
    return found is not None and found.is_negligible and found.p is not None and found.p <= LEVEL


def _certainty(overview: Overview) -> dict[str, Any]:
    """Intervals and tests in words and numbers, as lines of tables."""
    found = overview.certainty
    places = {(c.measure, c.partition): c.title for c in overview.table.columns}
    lines = [
        {
            "label": each.label,
            "measure": places.get((each.measure, each.partition), each.measure) + (f" [{each.unit}]" if each.unit else ""),
            "mean": number(each.mean),
            "student": _ends(each.student.low, each.student.high) if each.student is not None else "",
            "bootstrap": _ends(each.bootstrap.low, each.bootstrap.high) if each.bootstrap is not None else "",
            "difference": _signed(each.difference.amount) if each.difference is not None else "",
            "deviations": f"{each.difference.deviations:.1f}" if each.difference is not None else "",
            "p": _p(each.difference.p) if each.difference is not None else "",
            "telling": f"{100 * each.difference.telling_rate:.0f}\u00a0%" if each.difference is not None else "",
            "reading": _reading(each),
            "is_apart": each.is_apart,
            "between": _deviation(each.spread.between),
            "within": _deviation(each.spread.within),
        }
        for each in found.estimates
    ]
    between = [
        {
            "label": duel.label,
            "measure": places.get((duel.measure, duel.partition), duel.measure),
            "difference": _signed(duel.difference),
            "ends": _ends(duel.low, duel.high),
            "p": _p(duel.p),
            "outcome": {"win": "better", "loss": "worse"}.get(duel.outcome, "tie"),
            "reason": "" if duel.reason in {"better", "worse"} else duel.reason,
        }
        for duel in found.between
    ]
    attacks = [
        {
            "label": each.label,
            "measure": each.measure,
            "value": number(each.value),
            "samples": _ends(*each.samples) if each.samples is not None else "",
            "bank": _ends(*each.bank) if each.bank is not None else "",
            "models": _ends(each.models.low, each.models.high) if each.models is not None else "",
        }
        for each in found.attacks
    ]
    return {
        # Every other part stood in backticks.
        "sentences": [sentence.split("`") for sentence in found.sentences],
        "is_repeated": found.is_repeated,
        "has_spread": found.has_inner_spread,
        "n": found.n_originals,
        "lines": lines[:_MAX_RECORDS],
        "n_lines": len(lines),
        "between": between[:_MAX_RECORDS],
        "n_apart": sum(line["outcome"] != "tie" for line in between),
        "n_between": len(between),
        "against": found.against,
        "attacks": attacks[:_MAX_RECORDS],
        "has_bank": any(line["bank"] for line in attacks),
        "has_models": any(line["models"] for line in attacks),
        "differing": sum(line["is_apart"] for line in lines),
        "tested": sum(bool(line["reading"]) for line in lines),
    }


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{_minus(number(low))} to {_minus(number(high))}"


def _signed(value: float | None) -> str:
    if value is None:
        return ""
    text = number(value)
    return _minus(text if text.startswith("-") or not float(text) else f"+{text}")


def _minus(text: str) -> str:
    """With a minus sign that is as wide as a plus."""
    return "0" if not float(text) else text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _deviation(variance: float | None) -> str:
    return "" if variance is None else number(math.sqrt(variance))


# Figures


def _sections(figures: Iterable[Figure]) -> dict[str, list[dict[str, Any]]]:
    """Figures of each section, drawn for a wide page and, where that cannot be read on a phone, for one as well."""
    sections: dict[str, list[dict[str, Any]]] = {"overview": [], "certainty": [], "behaviour": [], "cost": []}
    for figure in figures:
        sections[figure.section].append(
            {
                "key": figure.key,
                "title": figure.title,
                "caption": figure.caption,
                "alt": figure.alt,
                **_drawn(figure),
                "header": list(figure.data[0]) if figure.data else [],
                "records": [_shown(figure, record) for record in figure.data[:_MAX_RECORDS]],
                "n_records": len(figure.data),
            }
        )
    return sections


def _drawn(figure: Figure) -> dict[str, Any]:
    """The SVGs, or why there are none: a figure that cannot be drawn must not cost the page."""
    try:
        wide = inline_svg(figure, f"wide-{figure.key}")
        narrow = inline_svg(figure, f"narrow-{figure.key}", narrow=True) if figure.narrow is not None else ""
        return {"wide": wide, "narrow": narrow, "is_small": is_small(figure)}
    except ValueError as error:
        return {
            "wide": f"<p>This figure could not be drawn: {html.escape(str(error)[:300])}</p>",
            "narrow": "",
            "is_small": False,
        }


def _shown(figure: Figure, record: Mapping[str, Any]) -> list[str]:
    header = list(figure.data[0])
    return [_text(record.get(name)) for name in header]


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
