"""How errors look on the terminal, and which exit code they have."""

from __future__ import annotations

from pathlib import Path

import click

from erasure.cli.prose import printable
from erasure.errors import ConfigError, DataError, Diagnostic, ErasureError, StoreError

__all__ = ["report"]


def report(error: ErasureError) -> int:
    """Print an error and return its exit code: 2 for bad input, 1 for what went wrong while running."""
    if isinstance(error, ConfigError):
        for problem in error.problems:
            click.echo(_described(problem), err=True)
        n = len(error.problems)
        click.echo(f"{n} problem{'s' if n > 1 else ''}", err=True)
        return 2
    if isinstance(error, DataError) and error.problem is not None:
        click.echo(f"{_described(error.problem)}\n1 problem", err=True)
        return 2
    click.echo(f"error: {printable(str(error))}", err=True)
    return 1 if isinstance(error, StoreError) else 2


def _described(problem: Diagnostic) -> str:
    lines = [printable(str(problem) if problem.position.line else f"error: {problem}")]
    source = _source_line(problem)
    if source is not None:
        number = str(problem.position.line)
        pointer = " " * (len(number) + 3 + max(0, problem.position.column - 1)) + "^"
        lines += [f"  {number} | {source}", f"  {pointer}"]
    return "\n".join(lines)


def _source_line(problem: Diagnostic) -> str | None:
    """The line of the file that the problem is in, if it can be shown whole."""
    path = Path(problem.position.file)
    if not problem.position.line or not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    if problem.position.line > len(lines):
        return None
    line = lines[problem.position.line - 1].replace("\t", " ")
    return line if len(line) <= 160 and line.isprintable() else None
