"""Every figure that a run has the numbers for, in the order of the report."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any

from erasure.analysis.overview import Overview
from erasure.records.figure_records import RepetitionRecord
from erasure.records.run_folder import RunFolder
from erasure.records.sweep_folder import SERIES, is_of_method
from erasure.reports.figures import certainty as certainty_figures
from erasure.reports.figures import models as model_figures
from erasure.reports.figures import retraining as retraining_figures
from erasure.reports.figures import settings as setting_figures
from erasure.reports.figures import verdicts as verdict_figures
from erasure.reports.figures.figure import Figure
from erasure.reports.figures.labels import short_labels

__all__ = ["figures_across", "figures_of", "part_figures"]


def figures_of(overview: Overview) -> list[Figure]:
    """Every figure that the run has the numbers for, in the order of the report; of several problems one after the other."""
    if not overview.parts:
        return _problem_figures(overview)
    parts = [figure for number, _ in enumerate(overview.parts) for figure in part_figures(overview, number)]
    return parts + figures_across(overview)


def part_figures(overview: Overview, number: int) -> list[Figure]:
    """Figures of one problem of several, told apart from those of the others."""
    name, part = overview.parts[number]
    return [
        replace(figure, key=f"{figure.key}_problem_{number + 1}", title=f"{figure.title} ({name})")
        for figure in _problem_figures(part)
    ]


def figures_across(overview: Overview) -> list[Figure]:
    """Figures over several problems: how much depends on what poses them."""
    paths = {path for setting in overview.folder.record.sweep for path in setting.settings}
    around = {path for path in paths if not is_of_method(path)}
    found = setting_figures.sensitivity(overview.folder.models, overview.verdicts, only=around, name="across problems")
    return [_shortened(found, short_labels(overview.order))] if found is not None else []


def _problem_figures(overview: Overview) -> list[Figure]:
    folder, order = overview.folder, overview.order
    found: list[Figure | None] = [
        verdict_figures.tradeoff(overview.verdicts),
        verdict_figures.seeds(folder.rows, order),
        retraining_figures.memory_left(overview.verdicts),
        retraining_figures.relabelled(overview.verdicts),
        retraining_figures.power_curve(overview.judged.report),
        certainty_figures.differences(overview.certainty, order),
        certainty_figures.ranks(overview.certainty),
    ]
    repeated = _same_as_gold(folder)
    for number, whole in enumerate(folder.groups):
        group = _without(whole, repeated)
        suffix = f"_{number + 1}" if number else ""
        found += [_renamed(figure, suffix, group) for figure in _group_figures(group, order, _gold(folder, whole))]
    curves_of = [curve for curve in folder.record.curves if curve.label not in repeated]
    measured = model_figures.measured_rocs(curves_of, folder.record.gold_curves)
    for number, (measure, curves) in enumerate(measured.items(), 1):
        found.append(model_figures.rocs(curves, order, key=f"roc_{number}_measured", name=measure))
    found += [
        setting_figures.trace(folder.trace, order, folder.models),
        setting_figures.costs(folder.models, folder.rows, order),
        setting_figures.sensitivity(folder.models, overview.verdicts),
    ]
    found += [_drawn_by(draw, overview) for draw in _of_other_packages()]
    short = short_labels(order)
    return [_shortened(figure, short) for figure in found if figure is not None]


@functools.cache
def _of_other_packages() -> tuple[Callable[..., Figure | None], ...]:
    """Figures that installed packages bring, as entry points: functions of an overview, and of whether the page is narrow."""
    return tuple(entry.load() for entry in sorted(entry_points(group="erasure.figures"), key=lambda entry: entry.name))


def _drawn_by(draw: Callable[..., Figure | None], overview: Overview) -> Figure | None:
    """A figure of another package, with both of its specifications."""
    wide, narrow = draw(overview, narrow=False), draw(overview, narrow=True)
    if wide is None or narrow is None or narrow.spec == wide.spec:
        return wide
    return replace(wide, narrow=narrow.spec)


def _shortened(figure: Figure, short: Mapping[str, str]) -> Figure:
    """The figure with short labels; its data keeps the whole ones."""

    def drawn(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: drawn(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [drawn(inner) for inner in value]
        return short.get(value, value) if isinstance(value, str) else value

    return replace(figure, spec=drawn(figure.spec), narrow=drawn(figure.narrow)) if short else figure


def _same_as_gold(folder: RunFolder) -> frozenset[str]:
    """Methods that retrain, where gold is there already: their panels would be the same pictures twice."""
    has_gold = any(model.role == "gold" and not model.failed for model in folder.models)
    return frozenset(model.label for model in folder.models if has_gold and model.exact)


def _gold(folder: RunFolder, group: RepetitionRecord) -> str | None:
    """What the group's gold model is called; None if there is none, or it was not measured."""
    golds = {model.label for model in folder.models if model.role == "gold"}
    series = group.losses.series if group.losses is not None else ()
    return next((each.label for each in series if each.label in golds), None)


def _without(group: RepetitionRecord, labels: frozenset[str]) -> RepetitionRecord:
    changes = {}
    for name, within in SERIES.items() if labels else ():
        if (piece := getattr(group, name)) is not None:
            changes[name] = replace(piece, **{within: tuple(s for s in getattr(piece, within) if s.label not in labels)})
    return replace(group, **changes)


def _group_figures(group: RepetitionRecord, order: Sequence[str], gold: str | None) -> list[Figure | None]:
    roles = {group.forget: "forget", group.retain: "retain"}
    if group.heldout:
        roles[group.heldout] = "test"
    found: list[Figure | None] = []
    for histograms, quantity in ((group.losses, "loss"), (group.confidences, "confidence")):
        if histograms is not None:
            found.append(model_figures.distributions(histograms, quantity=quantity, order=order, roles=roles, gold=gold))
    if group.rocs is not None:
        found.append(model_figures.rocs(group.rocs, order))
    for values, what in ((group.classes, "class"), (group.groups, "group")):
        if values is not None and gold is not None:
            found.append(model_figures.by_class(values, order=order, gold=gold, roles=roles, what=what))
    if group.layers is not None:
        found.append(model_figures.layers(group.layers, order, gold=gold))
    return found


def _renamed(figure: Figure | None, suffix: str, group: RepetitionRecord) -> Figure | None:
    """A figure of a further group, told apart from the first one's."""
    if figure is None or not suffix:
        return figure
    apart = group.problem or f"kept: {group.retain}"
    return replace(figure, key=f"{figure.key}{suffix}", title=f"{figure.title} ({apart.strip(' ()')})")
