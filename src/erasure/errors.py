"""Every error that ERASURE raises on purpose.

::

    ErasureError
    ├── ConfigError             one or more problems of a configuration, each with its position   (exit code 2)
    │   ├── UnknownComponent    a name that nobody registered
    │   └── InvalidParameters   a component's own parameters
    ├── MissingDependency       an optional library is needed; names the extra to install          (exit code 2)
    ├── DataError               data that cannot be read or used
    │   └── PartitionError      a partition is missing, empty, overlapping or leaking
    ├── RequirementNotMet       a component is not defined for what it was given
    ├── Diverged                a loss or a weight is no longer finite
    └── StoreError              the store cannot be read or written
        └── CorruptArtifact     a stored object does not match its checksums                       (exit code 1)

A message says what was found, what was expected and what to do. ``UnlearningWarning`` is no error: :func:`erasure.unlearn` gives it where a
model comes back that has not forgotten, or is of no use.
"""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erasure.renamed import module_formerly

__all__ = [
    "ConfigError",
    "CorruptArtifact",
    "DataError",
    "Diagnostic",
    "Diverged",
    "ErasureError",
    "InvalidParameters",
    "MissingDependency",
    "PartitionError",
    "Position",
    "RequirementNotMet",
    "StoreError",
    "UnknownComponent",
    "UnlearningWarning",
    "foreign",
    "is_from_outside",
    "nearest",
    "with_article",
]


@dataclass(frozen=True, order=True)
class Position:
    """A place in a configuration file; lines and columns count from 1."""

    file: str = "<python>"
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file


@dataclass(frozen=True)
class Diagnostic:
    """One thing that is wrong, where it is, and what would be right.

    Args:
        message: What was found and what was expected, one sentence without a full stop.
        path: Where in the configuration, such as ``unlearners[2].parameters.epochs``.
        position: File, line and column.
        hint: What to do, such as ``did you mean "temperature"?``.
        kind: ``syntax``, ``structure``, ``unknown-component``, ``trust``, ``parameter``, ``partition``, ``data``
            or ``requirement``.
    """

    message: str
    path: str = ""
    position: Position = field(default_factory=Position)
    hint: str = ""
    kind: str = "parameter"

    def __str__(self) -> str:
        where = f"{self.position}: " if self.position.line else ""
        path = f"{self.path}: " if self.path else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{where}{path}{self.message}{hint}"


class ErasureError(Exception):
    """Anything that ERASURE reports to its user."""


class ConfigError(ErasureError):
    """A configuration that cannot be run; lists every problem found, not only the first."""

    def __init__(self, problems: Sequence[Diagnostic] | str) -> None:
        if isinstance(problems, str):
            problems = (Diagnostic(problems, kind="structure"),)
        self.problems: tuple[Diagnostic, ...] = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class UnknownComponent(ConfigError):
    """A name that is neither registered nor importable."""


class InvalidParameters(ConfigError):
    """Parameters that a component does not accept."""


class MissingDependency(ErasureError):
    """An optional library that is not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f'{purpose} needs the package "{package}": pip install "erasure-unlearning[{extra}]"')
        self.package: str = package
        self.extra: str = extra
        self.purpose: str = purpose

    def __reduce__(self) -> tuple[type[MissingDependency], tuple[str, str, str]]:
        return type(self), (self.package, self.extra, self.purpose)


class DataError(ErasureError):
    """Data that is missing, unreadable or not usable for learning.

    ``problem`` says where the configuration asked for the data, once that is known.
    """

    problem: Diagnostic | None = None

    def __str__(self) -> str:
        return super().__str__() if self.problem is None else str(self.problem)


class PartitionError(DataError):
    """A partition that does not exist, is empty, or shares samples with one it must not.

    ``splitter`` is the number of the splitter that failed, if one did.
    """

    splitter: int | None = None


class RequirementNotMet(ErasureError):
    """A component that is not defined for the task, the model or the data it was given."""


class Diverged(ErasureError):
    """A loss or a weight became infinite or not a number."""


class StoreError(ErasureError):
    """The store cannot be read or written."""


class CorruptArtifact(StoreError):
    """A stored object whose bytes do not match its manifest."""


def foreign(error: BaseException) -> str:
    """What an error that is not ours says, and where: the last line that is not PyTorch's own.

    Example:
        >>> try:
        ...     {}["age"]
        ... except KeyError as error:
        ...     print(foreign(error).partition(" (")[0])
        KeyError: 'age'
    """
    said = f"{type(error).__name__}: {error}" if str(error).strip() else type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg} (line {error.lineno} of {error.filename})"
    frames = list(traceback.walk_tb(error.__traceback__))
    outside = [each for each in frames if each[0].f_globals.get("__name__", "").partition(".")[0] != "torch"]
    if not frames:
        return said
    frame, line = (outside or frames)[-1]
    return f"{said} (line {line} of {Path(frame.f_code.co_filename).name})"


def is_from_outside(error: BaseException) -> bool:
    """Whether code of the user's own took part in an error: neither ours, nor Python's, nor an installed library's."""
    ours = (str(Path(__file__).parent), *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")))
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(not file.startswith((*ours, "<")) for file in files)


def with_article(noun: str) -> str:
    """``a source``, ``an unlearner``."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def nearest(word: str, candidates: Iterable[str], ending: str = "") -> str:
    """The sentence ``did you mean "…"?`` for the candidate closest to ``word``, or an empty string.

    Args:
        word: What was written.
        candidates: What could have been meant.
        ending: What many candidates end in, which therefore makes none nearer.
    """

    def folded(name: str) -> str:
        return name.casefold().removesuffix(ending.casefold())

    by_folded: dict[str, str] = {}
    for candidate in candidates:
        by_folded.setdefault(folded(candidate), candidate)
    match = difflib.get_close_matches(folded(word), list(by_folded), n=1, cutoff=0.55)
    return f'did you mean "{by_folded[match[0]]}"?' if match else ""


class UnlearningWarning(UserWarning):
    """An unlearned model that should not be used without a look: nothing changed, it is ruined, or what was to be forgotten is kept."""


__getattr__: Callable[[str], Any] = module_formerly(
    __name__,
    {
        "Problem": "Diagnostic",
    },
)
