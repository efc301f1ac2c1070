"""Values given on the command line: ``--set unlearners[0].parameters.epochs=3``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from erasure.config.jsonc import parse
from erasure.config.tree import MAX_DEPTH, Loaded, Node, Notice, child_path
from erasure.errors import ConfigError, Diagnostic, Position, nearest

__all__ = ["OVERRIDES", "apply_overrides"]

_STEP = re.compile(r'\[(?P<index>[0-9]{1,9})\]|\["(?P<quoted>(?:[^"\\]|\\.)*)"\]|(?P<dot>\.?)(?P<name>[^.\[\]="]+)')
OVERRIDES = "--set"
"""The file that positions in such a value name."""


@dataclass(frozen=True)
class _Step:
    key: str | int
    column: int


def apply_overrides(root: Node, overrides: Sequence[str]) -> Loaded:
    """A tree with some values replaced.

    The path is keys and indices as in our messages, ``unlearners[0].parameters.epochs``; a key with a dot or a bracket in it
    is quoted: ``parameters["conv.weight"]``. Keys that do not exist are created, elements of lists are not. A bare string
    becomes a node as soon as the path goes on to its ``parameters``.

    The value is JSONC, or else a string: ``epochs=3`` is a number, ``name=adam`` is a string, ``name="3"`` too. A value that
    begins with ``{``, ``[`` or ``"`` must be JSONC: as a string it would be a mistake that nobody sees.

    Args:
        root: The tree; it is not changed.
        overrides: ``path=value``, applied in order.

    Returns:
        The new tree, with a notice for each new key that resembles an existing one.

    Raises:
        ConfigError: With the problems of all overrides.
    """
    problems: list[Diagnostic] = []
    notices: list[Notice] = []
    for override in overrides:
        try:
            steps, value = _split(override)
            root = _replaced(root, steps, value, "", notices)
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(problems)
    return Loaded(root, notices)


def _at(column: int) -> Position:
    return Position(OVERRIDES, 1, column)


def _fail(message: str, column: int, path: str = "", hint: str = "") -> ConfigError:
    return ConfigError([Diagnostic(message, path=path, position=_at(column), hint=hint, kind="structure")])


def _split(override: str) -> tuple[list[_Step], Node]:
    """The steps of the path and the tree of the value of one ``path=value``."""
    steps: list[_Step] = []
    end = 0
    while end < len(override) and override[end] != "=":
        match = _STEP.match(override, end)
        # A dot stands between a name and what comes before it, and nowhere else.
        if match is None or (match["name"] is not None and bool(match["dot"]) != bool(steps)):
            hint = 'write keys and indices such as unlearners[0].parameters["a.b"]'
            raise _fail(f'"{override}" has no path that can be read', end + 1, hint=hint)
        if match["index"] is not None:
            key: str | int = int(match["index"])
        elif match["quoted"] is not None:
            key = re.sub(r"\\(.)", r"\1", match["quoted"])
        else:
            key = match["name"]
        steps.append(_Step(key, end + 1 + len(match["dot"] or "")))
        end = match.end()
    if end == len(override) or not steps:
        raise _fail(f'expected path=value, found "{override}"', 1, hint=f"such as {OVERRIDES} unlearners[0].parameters.epochs=3")
    if len(steps) > MAX_DEPTH:
        raise _fail(f"nested deeper than {MAX_DEPTH} levels", 1)
    return steps, _value(override[end + 1 :], end + 2, MAX_DEPTH - len(steps))


def _value(text: str, column: int, max_depth: int) -> Node:
    # The spaces give every position of the value its column in the whole argument.
    try:
        return parse(" " * (column - 1) + text, OVERRIDES, max_depth)
    except ConfigError:
        if text.lstrip().startswith(("{", "[", '"')):
            raise
        return Node(text, _at(column))


def _replaced(node: Node, steps: list[_Step], value: Node, path: str, notices: list[Notice]) -> Node:
    """The node with the value at the end of ``steps``."""
    if not steps:
        return value
    step, *rest = steps
    here = child_path(path, step.key)
    if step.key in {"class", "parameters"}:
        node = node.as_component()
    elif _is_parameter(node, step):
        # "predictor.epochs" is meant for a section that is written with "parameters"; beside them it would have no effect.
        step, rest, here = _Step("parameters", step.column), steps, child_path(path, "parameters")
    if isinstance(step.key, int):
        child = _element(node, step, path)
    elif node.is_object:
        existing = node.get(step.key)
        child = _created(node, step, rest, here, notices) if existing is None else existing
    else:
        raise _fail(f'{node.kind} has no key "{step.key}"', step.column, path, _index_hint(node, path))
    return node.with_child(step.key, _replaced(child, rest, value, here, notices))


def _is_parameter(node: Node, step: _Step) -> bool:
    """Whether a key is one of the parameters of a component that has them under a key of their own."""
    parameters = node.get("parameters") if node.is_object else None
    return (
        parameters is not None
        and parameters.is_object
        and isinstance(step.key, str)
        and step.key != "label"
        and node.get(step.key) is None
    )


def _element(node: Node, step: _Step, path: str) -> Node:
    elements = list(node.elements())
    if not node.is_list:
        raise _fail(f"{node.kind} has no element [{step.key}]", step.column, path, _keys_hint(node))
    if not isinstance(step.key, int) or step.key >= len(elements):
        n = len(elements)
        size = "is empty" if n == 0 else f"has {n} element{'s' if n > 1 else ''}, [0]" + (f" to [{n - 1}]" if n > 1 else "")
        raise _fail(f"no element [{step.key}]: the list {size}", step.column, path)
    return elements[step.key]


def _created(node: Node, step: _Step, rest: list[_Step], here: str, notices: list[Notice]) -> Node:
    """What a key that does not exist begins as; a list cannot come from an index alone."""
    names = [name for name, _ in node.items()]
    near = nearest(str(step.key), names)
    if rest and isinstance(rest[0].key, int):
        hint = near or _keys_hint(node)
        raise _fail(f'no key "{step.key}" with elements', step.column, here, hint)
    if near:
        notices.append(Notice(f'the new key "{step.key}" is like an existing one; {near}', here, _at(step.column)))
    return Node({}, _at(step.column))


def _keys_hint(node: Node) -> str:
    names = [name for name, _ in node.items()]
    return f"it has the keys {', '.join(names)}" if names else ""


def _index_hint(node: Node, path: str) -> str:
    return f"name an element, such as {path}[0]" if node.is_list and node.value else ""
