"""Partitions that a node of a configuration cuts for itself: an attack that looks at three of the forgotten samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from erasure.config import Node, Notice
from erasure.config.build import Builder, PartitionUse, SourceLocation
from erasure.data.contract import Splitter
from erasure.errors import Diagnostic

if TYPE_CHECKING:
    from erasure.experiment.configuration import DataSection

__all__ = ["with_brought_partitions"]


@dataclass(frozen=True)
class _Splitters:
    """Splitters that a node has for itself.

    Args:
        nodes: Each as it is written.
        path: Of their list.
        of_other_data: Whether they cut data that the node names, and not the configuration's: what ``all`` is differs then.
    """

    nodes: tuple[Node, ...]
    path: str
    of_other_data: bool


def with_brought_partitions(data: DataSection, builder: Builder) -> DataSection:
    """The section with the partitions that nodes name and cut for themselves, after those that it has.

    Args:
        data: The section as it is written.
        builder: What built the configuration; is told of splitters that cannot be built, and of what joins the data.
    """
    names = {"all", *(part for splitter in data.partitions for part in splitter.parts)}
    makers: dict[str, Splitter] = {}
    for use in tuple(builder.uses):
        holder = max((path for path in builder.bringing if use.path.startswith(f"{path}.")), key=len, default=None)
        if holder is None or use.name in names:
            continue
        node, places = builder.bringing[holder]
        for splitter in _splitters_for(use, list(_listed(node, places, f"{holder}.parameters")), names, builder):
            for part in splitter.parts:
                if part != "-" and makers.setdefault(part, splitter) != splitter:
                    message = f'"{part}" is cut in two ways by two nodes; give one of the parts another name'
                    builder.problems.append(Diagnostic(message, use.path, use.position, kind="partition"))
    if not makers:
        return data
    made = data.replace(partitions=(*data.partitions, *dict.fromkeys(makers.values())))
    builder.places.append((made, next((place for built, place in builder.places if built is data), SourceLocation())))
    return made


def _splitters_for(use: PartitionUse, lists: Sequence[_Splitters], names: set[str], builder: Builder) -> list[Splitter]:
    """The splitters of a node that make the partition which it names, each after those whose parts it cuts."""
    for listed in lists:
        position = next((i for i, node in enumerate(listed.nodes) if use.name in _parts_of(node)), None)
        if position is None:
            continue
        path = f"{listed.path}[{position}]"
        splitter = builder.build(listed.nodes[position], Splitter, path)
        if not isinstance(splitter, Splitter):
            return []
        said = f'"{use.name}" is cut by a splitter of this node, which joins the partitions of the data'
        builder.notices.append(Notice(said, path, listed.nodes[position].position))
        before: list[Splitter] = []
        for each in [each for each in builder.uses if each.path.startswith(f"{path}.")]:
            if each.name == "all" and listed.of_other_data:
                message = f'"{use.name}" is cut from data that this node names for itself, which are not read'
                builder.problems.append(Diagnostic(message, use.path, use.position, kind="partition"))
            elif each.name not in names:
                earlier = _Splitters(listed.nodes[:position], listed.path, listed.of_other_data)
                before += _splitters_for(each, [earlier], names, builder)
        # What the data's own splitters make stays theirs.
        splitter = splitter.replace(parts_names=tuple("-" if part in names else part for part in splitter.parts))
        return [*before, splitter]
    return []


def _listed(node: Node, places: Sequence[str], path: str) -> Iterator[_Splitters]:
    """The lists of splitters inside a node's parameters, at ``parameter.key``: lists, or those of a data section."""
    for place in places:
        found, where = node.get("parameters"), path
        for key in place.split("."):
            found, where = None if found is None else found.get(key), f"{where}.{key}"
        if found is not None and found.is_list:
            yield _Splitters(tuple(found.elements()), where, of_other_data=False)
        elif found is not None:
            listed = (found.get("parameters") or found).get("partitions")
            if listed is not None:
                yield _Splitters(tuple(listed.elements()), f"{where}.partitions", of_other_data=True)


def _parts_of(node: Node) -> tuple[str, ...]:
    """What a splitter's node calls its parts, without ``-``."""
    named = (node.get("parameters") or node).get("parts_names")
    return () if named is None else tuple(str(part.value) for part in named.elements() if part.value != "-")
