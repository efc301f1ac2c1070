"""Configurations composed from files: every key that begins with ``compose`` is replaced by the content of the file it names.

In an object the file's keys join in its place::

    {"compose_data": "data.json", "globals": {…}}   →   {"data": {…}, "globals": {…}}

An object of nothing but one such key *is* the file's content, and in a list the elements of a composed list join::

    [{"compose_a": "node.json"}, {"compose_b": "two_nodes.json"}]   →   [node, first, second]

So do those of ``{"unlearners": […]}`` in a list that is itself called ``unlearners``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erasure.config.files import find, missing, read_text
from erasure.config.jsonc import parse
from erasure.config.overrides import apply_overrides
from erasure.config.propagation import propagate
from erasure.config.tree import MAX_DEPTH, Loaded, Node, Notice, child_path
from erasure.errors import ConfigError, Diagnostic, Position

__all__ = ["from_python", "load", "load_text"]

MAX_CHAIN = 50
"""Longest chain of files that compose each other."""
MAX_COMPOSITIONS = 2000
"""Most compositions in one configuration: twenty files that each compose the next one twice would make a million."""


def load(path: str | Path, overrides: Sequence[str] = ()) -> Loaded:
    """The configuration of a file: composed, then overridden, then propagated.

    Args:
        path: A JSON or JSONC file; it may hold an object, a bare node or a list.
        overrides: ``path=value`` of each ``--set``, see ``apply_overrides``.

    Raises:
        ConfigError: With every problem of this file and of those it composes.
    """
    path = Path(path)
    root = parse(read_text(path), str(path))
    return _finished(_Composer().composed(root, _File(str(path), path.resolve())), overrides)


def load_text(text: str, file: str = "<text>", overrides: Sequence[str] = ()) -> Loaded:
    """The configuration of a text, like ``load``.

    Args:
        text: JSONC.
        file: What the positions call it; composed paths may be relative to its directory.
        overrides: ``path=value`` of each ``--set``.

    Raises:
        ConfigError: With every problem of the text and of the files it composes.
    """
    return _finished(_Composer().composed(parse(text, file), _File(file, None)), overrides)


def from_python(mapping: Mapping[str, Any] | Sequence[Any], overrides: Sequence[str] = ()) -> Loaded:
    """The configuration of a Python mapping, like ``load``; composed paths are relative to the working directory.

    Raises:
        ConfigError: With every part that has no JSON form, or every problem of the files it composes.
    """
    root = Node.of(mapping)
    return _finished(_Composer().composed(root, _File(root.position.file, None)), overrides)


def _finished(loaded: Loaded, overrides: Sequence[str]) -> Loaded:
    notices = list(loaded.notices)
    root = loaded.root
    if overrides:
        overridden = apply_overrides(root, overrides)
        # An override may itself hold keys that compose; what was composed already has none left.
        recomposed = _Composer().composed(overridden.root, _File("--set", None))
        root = recomposed.root
        notices += [*overridden.notices, *recomposed.notices]
    propagated = propagate(root)
    return Loaded(propagated.root, [*notices, *propagated.notices], propagated.propagated)


@dataclass(frozen=True)
class _File:
    """A file on the chain of compositions: its name in messages, and what tells it from others (None: a text)."""

    name: str
    identity: Path | None


@dataclass(frozen=True)
class _Place:
    """Where in the composed tree a node goes, and through which files it came."""

    path: str
    depth: int
    chain: tuple[_File, ...]

    def child(self, key: str | int) -> _Place:
        return _Place(child_path(self.path, key), self.depth + 1, self.chain)

    def through(self, file: _File) -> _Place:
        return _Place(self.path, self.depth, (*self.chain, file))


def _is_note(name: str) -> bool:
    return "comment" in name.casefold()


def _composes(name: str) -> bool:
    return name.startswith("compose") and not _is_note(name)


def _live(node: Node) -> list[str]:
    """The keys of an object that are no notes."""
    return [name for name, _ in node.items() if not _is_note(name)]


@dataclass
class _Composer:
    """One composition: collects problems and notices, reads each file once."""

    problems: list[Diagnostic] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    parsed: dict[Path, Node | None] = field(default_factory=dict)
    n_compositions: int = 0

    def composed(self, root: Node, file: _File) -> Loaded:
        result = self._compose(root, _Place("", 0, (file,)))
        if self.problems or result is None:
            raise ConfigError(self.problems)
        return Loaded(result, self.notices)

    def _problem(self, message: str, position: Position, place: _Place, hint: str = "") -> None:
        self.problems.append(Diagnostic(message, path=place.path, position=position, hint=hint, kind="structure"))

    def _notice_notes(self, node: Node, place: _Place) -> None:
        self.notices += [
            Notice(f'"{name}" is a note and is ignored', place.path, node.key_position(name))
            for name, _ in node.items()
            if _is_note(name)
        ]

    def _compose(self, node: Node, place: _Place) -> Node | None:
        """The composed node; None if it cannot be composed, which is among the problems then."""
        if place.depth > MAX_DEPTH:
            self._problem(f"nested deeper than {MAX_DEPTH} levels", node.position, place)
            return None
        if node.is_list:
            elements: list[Node] = []
            for element in node.elements():
                self._element(element, elements, place)
            return Node(elements, node.position)
        if not node.is_object:
            return node
        self._notice_notes(node, place)
        match _live(node):
            case [name] if _composes(name):
                snippet = self._snippet(node, name, place)
                return None if snippet is None else self._compose(snippet[0], place.through(snippet[1]))
            case names:
                return self._object(node, names, place)

    def _element(self, element: Node, elements: list[Node], place: _Place) -> None:
        """Append what an element of the list at ``place`` composes to: nothing, one node, or each element of a composed list."""
        here = place.child(len(elements))
        match _live(element):
            case [] if element.is_object and element.value:  # nothing but notes
                self._notice_notes(element, here)
            case [name] if _composes(name):
                self._notice_notes(element, here)
                if (snippet := self._snippet(element, name, here)) is not None:
                    content, file = snippet
                    key = place.path.rpartition(".")[2]
                    if _live(content) == [key]:  # a snippet that could also join at the top, such as {"unlearners": […]}
                        content = content.get(key) or content
                    for inner in content.elements() if content.is_list else (content,):
                        self._element(inner, elements, place.through(file))
            case _:
                if (composed := self._compose(element, here)) is not None:
                    elements.append(composed)

    def _object(self, node: Node, names: list[str], place: _Place) -> Node:
        children: dict[str, Node] = {}
        keys: dict[str, Position] = {}
        explicit = {name for name in names if not _composes(name)}
        for name, child in node.items():
            if name in explicit:
                if (composed := self._compose(child, place.child(name))) is not None:
                    children[name], keys[name] = composed, node.key_position(name)
            elif name in names:
                joining = self._joining(node, name, place)
                for key, value in joining.items():
                    if key in explicit:
                        message = f'"{key}" of {value.position.file} is not used: the one beside "{name}" wins'
                        self.notices.append(Notice(message, place.path, joining.key_position(key)))
                        continue
                    if key in children:
                        message = f'"{key}" of {children[key].position.file} is not used: "{name}", which comes later, wins'
                        self.notices.append(Notice(message, place.path, keys[key]))
                    children[key], keys[key] = value, joining.key_position(key)
        return Node(children, node.position, keys)

    def _joining(self, node: Node, name: str, place: _Place) -> Node:
        """The object whose keys replace the composing key ``name``; empty if there is a problem."""
        nothing = Node({}, node.position)
        snippet = self._snippet(node, name, place)
        if snippet is None:
            return nothing
        content, file = snippet
        composed = self._compose(content, place.through(file))
        if composed is None or composed.is_object:
            return composed or nothing
        message = f'{file.name} holds {composed.kind}, but only the keys of an object can join those beside "{name}"'
        hint = f'give it a key of its own: "KEY": {{"{name}": "…"}}'
        self._problem(message, (node.get(name) or node).position, place, hint)
        return nothing

    def _snippet(self, node: Node, name: str, place: _Place) -> tuple[Node, _File] | None:
        """Content and name of the file that the composing key ``name`` stands for; None if there is a problem."""
        reference = node.get(name)
        if reference is None or not isinstance(reference.value, str) or not reference.value:
            found = "nothing" if reference is None else repr(reference.value) if reference.value == "" else reference.kind
            self._problem(f'"{name}" expects the path of a JSON file, found {found}', node.key_position(name), place)
            return None
        self.n_compositions += 1
        if self.n_compositions > MAX_COMPOSITIONS:
            if self.n_compositions == MAX_COMPOSITIONS + 1:
                self._problem(f"more than {MAX_COMPOSITIONS} compositions", reference.position, place)
            return None
        found_at, tried = find(reference.value, place.chain[-1].name)
        if found_at is None:
            problem = missing(reference.value, tried)
            self._problem(problem.message, reference.position, place, problem.hint)
            return None
        if found_at.parts[-len(Path(reference.value).parts) :] != Path(reference.value).parts:
            said = f'"{reference.value}" is read from {found_at}, which differs in upper and lower case'
            self.notices.append(Notice(said, place.path, reference.position))
        file = _File(str(found_at), found_at.resolve())
        if any(other.identity == file.identity for other in place.chain):
            chain = " → ".join(other.name for other in (*place.chain, file))
            self._problem(f"files compose each other in a cycle: {chain}", reference.position, place)
            return None
        if len(place.chain) >= MAX_CHAIN:
            self._problem(f"more than {MAX_CHAIN} files compose each other in a chain", reference.position, place)
            return None
        content = self._parsed(found_at, place)
        return None if content is None else (content, file)

    def _parsed(self, path: Path, place: _Place) -> Node | None:
        """The tree of a file; its problems are reported once, however often it is composed."""
        if path not in self.parsed:
            self.parsed[path] = None
            try:
                self.parsed[path] = parse(read_text(path), str(path))
            except ConfigError as error:
                self.problems += [dataclasses.replace(problem, path=place.path) for problem in error.problems]
        return self.parsed[path]
