"""A sweep's settings as one run: what no setting changes is there once, what they change by its setting."""

from __future__ import annotations

import json
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from erasure.durable import failure
from erasure.errors import StoreError
from erasure.records.evidence import CommandRecord, MeasureRecord, ModelRecord, RunRecord, SettingRecord
from erasure.records.figure_records import RepetitionRecord
from erasure.records.rows import Row

__all__ = [
    "POINTS_FILE",
    "SERIES",
    "Setting",
    "is_of_method",
    "merged_evidence",
    "merged_jury",
    "merged_rows",
    "problems",
    "read_settings",
    "shown_setting",
    "suffixes",
]

POINTS_FILE = "points.json"
_LISTS = ("curves", "gold_curves", "intervals", "failures", "missing", "sources", "seeds")
SERIES: Mapping[str, str] = {
    "losses": "series",
    "confidences": "series",
    "rocs": "series",
    "classes": "rows",
    "groups": "rows",
    "layers": "rows",
}
"""Pieces of evidence that have a series for each model, and under which name."""
_LABELLED = ("samples", "outputs")
"""Pieces of evidence that are lists with a label in each entry."""
_COMMON = {"losses": "edges", "confidences": "edges", "rocs": "fpr", "classes": "names", "groups": "names", "layers": "names"}
_Model = tuple[str, str]
"""Role and label."""


@dataclass(frozen=True, eq=False)
class Setting:
    """One setting of a sweep.

    Args:
        label: What tells it from the others.
        values: Configuration path to value.
        rows: Its rows.
        evidence: What its run kept beside them.
        jury: Rows of its further golds.
    """

    label: str
    values: Mapping[str, Any]
    rows: Sequence[Row]
    evidence: RunRecord
    jury: Sequence[Row] = ()

    @property
    def name(self) -> str:
        """Name of the experiment without the setting."""
        name = self.evidence.experiment or next((row.experiment for row in self.rows), "")
        return name.removesuffix(f" ({self.label})")


def read_settings(directory: Path) -> list[tuple[Path, str, Mapping[str, Any]]]:
    """Folder, label and values of every setting, as the sweep wrote them; empty if the folder is of no sweep.

    Raises:
        StoreError: If the list cannot be read.
    """
    path = directory / POINTS_FILE
    if not path.is_file():
        return []
    try:
        points = json.loads(path.read_bytes())
        folders = [directory / "points" / Path(str(point["folder"])).name for point in points if point["folder"]]
        return [(folder, str(p["label"]), dict(p["settings"])) for folder, p in zip(folders, points, strict=True)]
    except OSError as error:
        raise failure("read", path, error, option="RUN") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{path} is not the list of a sweep's settings ({error}); run the sweep again.") from error


def is_of_method(path: str) -> bool:
    """Whether a configuration path is a method's, and not the data's, the model's or the evaluation's."""
    return path.startswith("unlearner")


def problems(settings: Sequence[Setting]) -> list[tuple[str, list[int]]]:
    """Positions of the settings that pose the same problem, by what it is called.

    Methods compete on one problem: the same data, forget set, original and measures. What is swept outside the methods poses another.
    """
    found: dict[Hashable, list[int]] = {}
    for number, setting in enumerate(settings):
        found.setdefault(_problem(setting), []).append(number)
    paths = [path for path in settings[0].values if not is_of_method(path)] if settings else []
    named = [_named([settings[i] for i in members], paths, settings) for members in found.values()]
    if len(set(named)) < len(named):
        named = [settings[members[0]].label for members in found.values()]
    return list(zip(named, found.values(), strict=True))


def _problem(setting: Setting) -> Hashable:
    return tuple((path, json.dumps(value, sort_keys=True)) for path, value in setting.values.items() if not is_of_method(path))


def suffixes(settings: Sequence[Setting]) -> list[dict[_Model, str]]:
    """For each setting, what its models are called apart from those of other settings; nothing where they are the same model.

    Models are the same where their addresses and the problem are: an original that meets two forget sets has values of its own on each.
    A suffix names the values that are the same in all settings that share the model.
    """
    addresses = [{model: (_problem(s), found) for model, found in _addresses(s).items()} for s in settings]
    found: list[dict[_Model, str]] = [{} for _ in settings]
    varied = [
        path for path in (settings[0].values if settings else ()) if len({json.dumps(s.values.get(path)) for s in settings}) > 1
    ]
    for model in dict.fromkeys(model for each in addresses for model in each):
        kinds: dict[Any, list[int]] = {}
        for number, each in enumerate(addresses):
            if model in each:
                kinds.setdefault(each[model], []).append(number)
        if len(kinds) < 2:
            continue
        named = [_named([settings[i] for i in members], varied, settings) for members in kinds.values()]
        if len(set(named)) < len(named):
            named = [settings[members[0]].label for members in kinds.values()]
        for name, members in zip(named, kinds.values(), strict=True):
            for number in members:
                found[number][model] = f" ({name})"
    return found


def _addresses(setting: Setting) -> dict[_Model, tuple[str, ...]]:
    """The models of each label; of a run without evidence, the setting itself stands for them."""
    found: dict[_Model, list[str]] = {}
    for model in setting.evidence.models:
        found.setdefault((model.role, model.label), []).append(model.address)
    if not found:
        return {(row.model_role, row.label): (setting.label,) for row in setting.rows}
    return {model: tuple(each) for model, each in found.items()}


def _named(settings: Sequence[Setting], among: Iterable[str], everyone: Sequence[Setting]) -> str:
    """The values among these paths that these settings have in common, by the last words of the paths."""
    first = settings[0].values
    common = {path: first[path] for path in among if path in first and all(s.values.get(path) == first[path] for s in settings)}
    short = {path: path.rpartition(".")[2] for path in first}
    twice = {name for name in short.values() if list(short.values()).count(name) > 1}
    parts = [
        shown_setting(path if short[path] in twice else short[path], value, [s.values.get(path) for s in everyone])
        for path, value in common.items()
    ]
    return ", ".join(parts) or settings[0].label


def shown_setting(name: str, value: Any, among: Iterable[Any] = ()) -> str:
    """A setting in few words; of a component its class and the parameters that not all of them share.

    Args:
        name: What is set.
        value: The value.
        among: What the sweep has in the same place.

    Example:
        >>> shown_setting("epochs", 3)
        'epochs=3'
        >>> everyone = [{"class": "Class", "parameters": {"labels": k, "ref_data": "train"}} for k in (3, 8)]
        >>> shown_setting("partitions[1]", everyone[1], everyone)
        'Class(labels=8)'
    """
    shown = _shown_value(value, among)
    return shown if isinstance(value, Mapping) and not shown.startswith("{") else f"{name}={shown}"


def _shown_value(value: Any, among: Iterable[Any] = ()) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping) and isinstance(value.get("class"), str) and set(value) <= {"class", "parameters"}:
        given = value.get("parameters") or {}
        others = [(other.get("parameters") or {}) if isinstance(other, Mapping) else {} for other in among]
        own = {name: each for name, each in given.items() if not others or any(other.get(name) != each for other in others)}
        inside = ", ".join(f"{name}={_shown_value(each)}" for name, each in own.items())
        return f"{value['class']}({inside})" if inside else str(value["class"])
    return value if isinstance(value, str) else json.dumps(value)


def merged_rows(settings: Sequence[Setting], names: Sequence[Mapping[_Model, str]]) -> list[Row]:
    """Rows of all settings under the names that tell their models apart, each model's once."""
    rows: list[Row] = []
    seen: set[_Model] = set()
    for setting, suffix in zip(settings, names, strict=True):
        own: set[_Model] = set()
        for row in setting.rows:
            key = (row.model_role, row.label + suffix.get((row.model_role, row.label), ""))
            if key not in seen:
                own.add(key)
                rows.append(replace(row, label=key[1], experiment=setting.name))
        seen |= own
    return rows


def merged_jury(settings: Sequence[Setting], names: Sequence[Mapping[_Model, str]]) -> list[Row]:
    """Rows of the further golds of all settings: those of settings that share their gold once, under its name.

    Attacks that were calibrated for a method, or for the original, have rows of the golds under its label.
    """
    rows: list[Row] = []
    seen: set[_Model] = set()
    for setting, suffix in zip(settings, names, strict=True):
        own: set[_Model] = set()
        for row in setting.jury:
            role = row.treated_like or row.model_role
            key = (role, row.label + suffix.get((role, row.label), ""))
            if key not in seen:
                own.add(key)
                rows.append(replace(row, label=key[1], experiment=setting.name))
        seen |= own
    return rows


def merged_evidence(settings: Sequence[Setting], names: Sequence[Mapping[_Model, str]]) -> RunRecord:
    """What all settings kept, put together; figures of the first repetition of every original."""
    if any(setting.evidence.is_empty for setting in settings):
        return RunRecord()
    models: list[ModelRecord] = []
    lists: dict[str, list[Any]] = {name: [] for name in _LISTS}
    measures: dict[str, MeasureRecord] = {}
    groups: dict[Any, RepetitionRecord] = {}
    seen: set[_Model] = set()
    for setting, suffix in zip(settings, names, strict=True):
        evidence = setting.evidence
        labels = {label: label + end for (_, label), end in suffix.items()}
        known = {(str(m.role), labels.get(m.label, m.label)) for m in evidence.models}
        new = {label for _, label in known - seen}
        problem = suffix.get(("original", _original(setting)), "")
        models += [
            replace(model, label=label, problem=problem, parameters=_swept_parameters(model, setting.values))
            for model in evidence.models
            if (label := labels.get(model.label, model.label)) in new
        ]
        seen |= known
        measures = dict(evidence.measures) | measures
        for name, found in lists.items():
            kept = [_relabelled(each, labels) for each in getattr(evidence, name)]
            unlabelled = found if any(not hasattr(each, "label") for each in kept) else ()
            found += [each for each in kept if (each.label in new if hasattr(each, "label") else each not in unlabelled)]
        for number, group in enumerate(evidence.repetitions):
            key = (number, problem)
            groups[key] = _merged_group(groups.get(key), replace(group, problem=problem), labels, new)
    together: dict[str, Any] = {name: tuple(found) for name, found in lists.items()}
    return replace(
        settings[0].evidence,
        experiment=settings[0].name,
        models=tuple(models),
        repetitions=tuple(groups.values()),
        measures=measures,
        command=_command([setting.evidence.command for setting in settings]),
        sweep=tuple(SettingRecord(label=setting.label, settings=dict(setting.values)) for setting in settings),
        **together,
    )


def _command(commands: Sequence[CommandRecord]) -> CommandRecord:
    """The command of the whole sweep: a setting that is the file as it stands names ``run``, all others ``sweep``."""
    for command in commands:
        if command.text.startswith("erasure sweep "):
            return CommandRecord(text=command.text)
        if command.text.startswith("erasure run ") and not command.note and len(commands) == 1:
            return CommandRecord(text=command.text.replace("erasure run ", "erasure sweep ", 1))
    return commands[0]


def _original(setting: Setting) -> str:
    return next((m.label for m in setting.evidence.models if m.role == "original"), "original")


def _swept_parameters(model: ModelRecord, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """A method's parameters with what was swept around it, such as the original's learning rate."""
    if model.parameters is None:
        return None
    return dict(model.parameters) | {path: value for path, value in values.items() if not path.startswith("unlearners")}


def _relabelled(record: Any, labels: Mapping[str, str]) -> Any:
    label = str(getattr(record, "label", ""))
    return replace(record, label=labels[label]) if label in labels else record


def _merged_group(
    found: RepetitionRecord | None, group: RepetitionRecord, labels: Mapping[str, str], new: Collection[str]
) -> RepetitionRecord:
    """Add a setting's series to those of an earlier one; pieces that are not measured alike are left to the first."""
    own: dict[str, Any] = {name: tuple(_relabelled(each, labels) for each in getattr(group, name)) for name in _LABELLED}
    for name, within in SERIES.items():
        if (piece := getattr(group, name)) is not None:
            own[name] = replace(piece, **{within: tuple(_relabelled(each, labels) for each in getattr(piece, within))})
    if found is None:
        return replace(group, **own)
    merged: dict[str, Any] = {}
    for name in _LABELLED:
        earlier = getattr(found, name)
        merged[name] = earlier + tuple(each for each in own[name] if each.label in new) if earlier else own[name]
    for name, within in SERIES.items():
        earlier, piece = getattr(found, name), own.get(name)
        if earlier is None or piece is None:
            merged[name] = piece if earlier is None else earlier
        elif getattr(earlier, _COMMON[name]) == getattr(piece, _COMMON[name]):
            series = tuple(each for each in getattr(piece, within) if each.label in new)
            merged[name] = replace(earlier, **{within: getattr(earlier, within) + series})
    return replace(found, **merged)
