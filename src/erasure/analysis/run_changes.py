"""What changed from one run to another: which nodes of the configuration, and which values beyond noise."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from erasure.analysis.gaps import EPSILON
from erasure.analysis.statistics import student_interval
from erasure.intervals import student_quantile
from erasure.records.originals import by_original, mean_by_original
from erasure.records.rows import Row
from erasure.records.run_folder import RunFolder
from erasure.types import Json

__all__ = ["NodeChange", "RunChanges", "ValueChange", "node_changes", "run_changes", "value_changes"]

Verdict: TypeAlias = Literal["changed", "within noise", "same", "undecided"]

_Key: TypeAlias = tuple[str, str, str, str]


@dataclass(frozen=True)
class NodeChange:
    """A node of the configuration that differs; ``kind`` is ``changed``, ``added`` or ``removed``."""

    path: str
    kind: Literal["changed", "added", "removed"]
    old: Json
    new: Json


@dataclass(frozen=True)
class ValueChange:
    """A value in two runs.

    Args:
        label: The model.
        measure: The measure.
        partition: What it was measured on.
        unit: Its unit.
        old: Mean in the earlier run; None if it has none.
        new: Mean in the later run.
        noise: What a difference must exceed to be real: the larger noise floor, or the interval of the difference; None if unknown.
        judgement: What the difference is.
        reason: Why, in a sentence.
    """

    label: str
    measure: str
    partition: str
    unit: str
    old: float | None
    new: float | None
    noise: float | None
    judgement: Verdict
    reason: str


@dataclass(frozen=True)
class RunChanges:
    """What changed from one run to the next.

    Args:
        old: Name of the earlier run.
        new: Name of the later run.
        nodes: Nodes of the configuration that differ.
        values: Every value that both have.
        only_old: Models that only the earlier one has.
        only_new: Models that only the later one has.
        note: What a reader must know; empty if nothing.
    """

    old: str
    new: str
    nodes: tuple[NodeChange, ...]
    values: tuple[ValueChange, ...]
    only_old: tuple[str, ...] = ()
    only_new: tuple[str, ...] = ()
    note: str = ""

    @property
    def changed(self) -> tuple[ValueChange, ...]:
        """Values that differ by more than noise."""
        return tuple(value for value in self.values if value.judgement == "changed")


def run_changes(runs: Sequence[tuple[str, RunFolder]]) -> list[RunChanges]:
    """Changes from each run to the next one of the same name and data set.

    Args:
        runs: Name and files of each, in the order of time or of the command line.
    """
    latest: dict[tuple[str, str], tuple[str, RunFolder]] = {}
    found = []
    for name, folder in runs:
        key = (folder.name, next((row.dataset for row in folder.rows), ""))
        if key in latest:
            found.append(_between(*latest[key], name, folder))
        latest[key] = (name, folder)
    return found


def _between(old_name: str, old: RunFolder, new_name: str, new: RunFolder) -> RunChanges:
    before, after = (folder.record.canonical for folder in (old, new))
    known = bool(before and after)
    labels = [list(dict.fromkeys(row.label for row in folder.rows)) for folder in (old, new)]
    return RunChanges(
        old_name,
        new_name,
        tuple(node_changes(before, after)) if known else (),
        tuple(value_changes(old.rows, new.rows)),
        tuple(label for label in labels[0] if label not in labels[1]),
        tuple(label for label in labels[1] if label not in labels[0]),
        _note(old, new, known=known),
    )


def _note(old: RunFolder, new: RunFolder, *, known: bool) -> str:
    notes = [] if known else ["One of the runs kept no configuration; only values are compared."]
    before, after = (sorted({row.seed_train for row in folder.rows if row.seed_train is not None}) for folder in (old, new))
    if before != after:
        notes.append(f"The training seeds differ: {_listed(before)}, then {_listed(after)}.")
    return " ".join(notes)


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds[:10])) + (" …" if len(seeds) > 10 else "")


# Configurations


def node_changes(old: Json, new: Json, path: str = "") -> Iterator[NodeChange]:
    """Nodes in which two canonical configurations differ, with paths as ``--set`` takes them.

    Elements of lists are matched by what they are: an unlearner that was put in between moves the others and does not change them.
    """
    if _same(old, new):
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping) and _what(old) == _what(new):
        for key in dict.fromkeys([*old, *new]):
            here = f"{path}.{key}" if path else str(key)
            if key not in new:
                yield NodeChange(here, "removed", old[key], None)
            elif key not in old:
                yield NodeChange(here, "added", None, new[key])
            else:
                yield from node_changes(old[key], new[key], here)
    elif isinstance(old, list) and isinstance(new, list) and any(isinstance(each, Mapping) for each in (*old, *new)):
        yield from _list_changes(old, new, path)
    else:
        yield NodeChange(path, "changed", old, new)


def _list_changes(old: Sequence[Json], new: Sequence[Json], path: str) -> Iterator[NodeChange]:
    # Equal elements first, then those of one class in the gaps between them.
    matcher = difflib.SequenceMatcher(None, [_form(each) for each in old], [_form(each) for each in new], autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag == "equal":
            continue
        inner = difflib.SequenceMatcher(None, [_what(each) for each in old[i1:i2]], [_what(each) for each in new[j1:j2]], False)
        for step, a1, a2, b1, b2 in inner.get_opcodes():
            if step == "equal":
                for a, b in zip(range(i1 + a1, i1 + a2), range(j1 + b1, j1 + b2), strict=True):
                    yield from node_changes(old[a], new[b], f"{path}[{b}]")
                continue
            for a in range(i1 + a1, i1 + a2):
                yield NodeChange(f"{path}[{a}]", "removed", old[a], None)
            for b in range(j1 + b1, j1 + b2):
                yield NodeChange(f"{path}[{b}]", "added", None, new[b])


def _what(node: Json) -> str:
    """What a component is, whatever its parameters."""
    if isinstance(node, Mapping):
        return str(node.get("class") or node.get("call") or "")
    return _form(node)


def _form(node: Json) -> str:
    return json.dumps(node, sort_keys=True, ensure_ascii=False)


def _same(old: Json, new: Json) -> bool:
    return _form(old) == _form(new)


# Values


def value_changes(old: Sequence[Row], new: Sequence[Row]) -> list[ValueChange]:
    """Every value that two runs share, judged by noise floor and intervals; equal training seeds are paired."""
    before, after = _by_key(old), _by_key(new)
    return [_value_change(key, rows, after[key]) for key, rows in before.items() if key in after]


def _by_key(rows: Sequence[Row]) -> dict[_Key, list[Row]]:
    found: dict[_Key, list[Row]] = {}
    for row in rows:
        found.setdefault((row.model_role, row.label, row.measure, row.partition), []).append(row)
    return found


def _value_change(key: _Key, old: Sequence[Row], new: Sequence[Row]) -> ValueChange:
    def said(judgement: Verdict, reason: str, noise: float | None = None) -> ValueChange:
        return ValueChange(key[1], key[2], key[3], old[0].unit, _mean(first), _mean(second), noise, judgement, reason)

    first, second = mean_by_original(by_original(old)), mean_by_original(by_original(new))
    if not first or not second:
        both = not first and not second
        return said("same" if both else "changed", "neither has a value" if both else "only one of them has a value")
    if first.keys() == second.keys():
        differences = [second[cluster] - first[cluster] for cluster in first]
        if all(abs(each) <= EPSILON * max(1.0, abs(first[c])) for each, c in zip(differences, first, strict=True)):
            return said("same", "equal at every training seed", 0.0)
        difference = math.fsum(differences) / len(differences)
        interval = student_interval(differences)
        half = None if interval is None else (interval.high - interval.low) / 2
        seeds = f"the same {len(first)} training seed{'' if len(first) == 1 else 's'}"
    else:
        difference = (_mean(second) or 0.0) - (_mean(first) or 0.0)
        half = _welch(list(first.values()), list(second.values()))
        seeds = "other training seeds"
    half = _attack(old, new) if half is None else half
    floor = max((row.noise_floor for row in (*old, *new) if row.noise_floor is not None), default=None)
    known = [noise for noise in (floor, half) if noise is not None]
    if not known:
        return said("undecided", f"neither noise floor nor interval is known; {seeds}")
    noise = max(known)
    name = "the noise floor" if noise == floor else "the interval of the difference"
    if abs(difference) <= noise + EPSILON:
        return said("within noise", f"within {name}; {seeds}", noise)
    if half is None and first.keys() != second.keys():
        # The floor is the spread of golds on one split; another split moves every model.
        return said("undecided", "beyond the noise floor, but other seeds of which there are too few to test", noise)
    return said("changed", f"beyond {name}; {seeds}", noise)


def _mean(clusters: Mapping[Any, float]) -> float | None:
    return math.fsum(clusters.values()) / len(clusters) if clusters else None


def _welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Half of the interval of the difference of two means, by Welch; None if either has no spread to estimate."""
    if len(first) < 2 or len(second) < 2:
        return None
    parts = []
    for values in (first, second):
        mean = math.fsum(values) / len(values)
        parts.append((math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values), len(values) - 1))
    total = sum(part for part, _ in parts)
    if total == 0:
        return 0.0
    freedom = total**2 / sum(part**2 / n for part, n in parts)
    return student_quantile(freedom, 0.975) * math.sqrt(total)


def _attack(old: Sequence[Row], new: Sequence[Row]) -> float | None:
    """Half of the interval of the difference of two single values that have intervals of their own."""
    halves = []
    for rows in (old, new):
        if len(rows) != 1 or rows[0].low is None or rows[0].high is None:
            return None
        halves.append((rows[0].high - rows[0].low) / 2)
    return math.hypot(*halves)
