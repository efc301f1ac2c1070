"""Facts of components read from their source text, so that listing them imports nothing heavy.

Class data that people look for (the first line of the docstring, ``source``, ``reads``) is written as literals, and Python's parser
reads it. Facts that a class inherits are looked up in the classes it names as its bases, through the imports of its module.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Facts", "facts_of"]


@dataclass(frozen=True)
class Facts:
    """What a list shows of a component.

    Args:
        summary: First line of its docstring.
        paper: Where it comes from; empty if it does not say.
        reads: Roles of the partitions it looks at, sorted; None if it has no such thing.
        wraps: Whether it looks at what the methods inside it look at.
    """

    summary: str
    paper: str = ""
    reads: tuple[str, ...] | None = None
    wraps: bool = False


@functools.cache
def facts_of(target: str) -> Facts:
    """Facts of ``module:Class``, without importing it."""
    module, _, name = target.partition(":")
    summary = ""
    paper: str | None = None
    reads: tuple[str, ...] | None = None
    wraps = False
    for node, tree in _ancestry(module, name):
        summary = summary or (ast.get_docstring(node) or "").partition("\n")[0]
        for statement in node.body:
            field, value = _assignment(statement)
            if field == "source" and paper is None and value is not None:
                paper = _paper(value, tree)
            elif field == "reads" and reads is None and value is not None:
                reads = tuple(sorted(_strings(value)))
        # Who says at run time what is read, and nothing before, asks the methods inside.
        wraps = wraps or (reads is None and any(isinstance(s, ast.FunctionDef) and s.name == "partitions" for s in node.body))
    return Facts(summary, paper or "", reads, wraps and reads is not None)


def _ancestry(module: str, name: str, depth: int = 0) -> Iterator[tuple[ast.ClassDef, ast.Module]]:
    """The class and those it inherits from, nearest first, as far as their source is ours to read."""
    tree = _parsed(module)
    if tree is None or depth > 8:
        return
    node = next((n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name), None)
    if node is None:
        return
    yield node, tree
    for base in node.bases:
        if isinstance(base, ast.Name):
            yield from _ancestry(_home(tree, base.id) or module, base.id, depth + 1)


def _home(tree: ast.Module, name: str) -> str | None:
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return node.module
    return None


@functools.cache
def _parsed(module: str) -> ast.Module | None:
    # find_spec would import the packages on the way, and with them torch: our own files are found by their path.
    package, *parts = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None:
        return None
    if spec.submodule_search_locations:
        path = Path(spec.submodule_search_locations[0]).joinpath(*parts)
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    else:
        file = Path(spec.origin or "")
    if file.suffix != ".py" or not file.is_file():
        return None
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return None  # a plugin that cannot be read is listed by its name


def _assignment(statement: ast.stmt) -> tuple[str, ast.expr | None]:
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return statement.target.id, statement.value
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id, statement.value
    return "", None


def _paper(value: ast.expr, tree: ast.Module) -> str:
    if isinstance(value, ast.Name):
        assigned = dict(_assignment(statement) for statement in tree.body)
        value = assigned.get(value.id) or value
    if isinstance(value, ast.Call):
        for keyword in value.keywords:
            if keyword.arg == "paper":
                return "".join(_strings(keyword.value))
    return ""


def _strings(value: ast.expr) -> list[str]:
    return [node.value for node in ast.walk(value) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
