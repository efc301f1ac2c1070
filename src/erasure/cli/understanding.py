"""How a configuration is understood, for people: names, renamed parameters, what has no effect and what is done otherwise."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from erasure.config import Notice
from erasure.registry.upstream import SECTIONS, UPSTREAM, Alias

__all__ = ["explained"]

_PLACES = 3
_KINDS = {
    "no-effect": "Without effect",
    "left-out": "Left out",
    "unlike": "Unlike the reference implementation",
    "": "Other notes",
}


def explained(names: Sequence[Mapping[str, Any]], notices: Iterable[Notice]) -> Iterator[tuple[str, list[str]]]:
    """Titles and the lines below them, one section after the other; sections without lines are left out.

    Args:
        names: Name, class and path of each component, and its renamed and assumed parameters.
        notices: What was noticed.
    """
    published = [each for each in names if _alias(each["name"]) is not None]
    yield from _section("What each published name stands for", _grouped(published))
    others = [each for each in names if _alias(each["name"]) is None]
    yield from _section("What each name stands for", _grouped(others))
    notices = list(notices)
    for kind, title in _KINDS.items():
        yield from _section(title, _collected((n.message, n.path) for n in notices if n.kind == kind))
        if kind == "unlike":
            yield from _section("Faults of the reference implementation that are not repeated", _faults(published))


def _section(title: str, lines: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    if found := list(lines):
        yield title, found


def _grouped(names: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in names:
        groups.setdefault((each["name"], each["class"]), []).append(each)
    for group in groups.values():
        yield _heading(group[0], [each["path"] for each in group])
        renamed = {written: ours for each in group for written, ours in each.get("renamed", {}).items()}
        if renamed:
            yield "  renamed: " + ", ".join(f"{written} is {ours}" for written, ours in renamed.items())
        assumed = {name: value for each in group for name, value in each.get("assumed", {}).items()}
        if assumed:
            yield "  where nothing is written: " + ", ".join(f"{name} = {_shown(value)}" for name, value in assumed.items())


def _heading(name: Mapping[str, Any], paths: Sequence[str]) -> str:
    return f'{_places(paths)}: "{name["name"]}" is {name["class"]}'


def _faults(names: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for each in names:
        alias = _alias(each["name"])
        if alias is not None and alias.fault and each["name"] not in found.setdefault(alias.fault, []):
            found[alias.fault].append(each["name"])
    for fault, where in found.items():
        yield f"{fault}: {', '.join(name.rpartition('.')[2] for name in where)}"


def _collected(notes: Iterable[tuple[str, str]]) -> Iterator[str]:
    found: dict[str, list[str]] = {}
    for message, path in notes:
        found.setdefault(message, []).append(path)
    for message, paths in found.items():
        where = _places([path for path in paths if path])
        yield f"{where}: {message}" if where else message


def _places(paths: Sequence[str]) -> str:
    shown = ", ".join(paths[:_PLACES])
    return f"{shown} and {len(paths) - _PLACES} more" if len(paths) > _PLACES else shown


def _shown(value: Any) -> str:
    if isinstance(value, dict) and "class" in value:
        parameters = ", ".join(f"{name}={_shown(each)}" for name, each in value.get("parameters", {}).items())
        return f"{re.split('[:.]', value['class'])[-1]}({parameters})"
    return json.dumps(value)


def _alias(name: str) -> Alias | None:
    if name in UPSTREAM:
        return UPSTREAM[name]
    return SECTIONS.get(name.rpartition(".")[2]) if name.startswith("erasure.") else None
