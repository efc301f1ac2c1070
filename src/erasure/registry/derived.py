"""Parameters that several of upstream's make together: small rules, declared as data beside each name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Among", "ChosenValue", "Counts", "Derived", "Joined", "Lifted", "MovedBack", "Products", "RepeatedValue"]


class Derived(Protocol):
    """Makes one of our parameters of upstream's."""

    @property
    def takes(self) -> tuple[str, ...]:
        """Upstream's parameters that are used up."""
        ...

    def made(self, given: Mapping[str, Any]) -> tuple[Any, str]:
        """The value by our name (None: nothing to set) and, if it is not what was written, one sentence that says so.

        Raises:
            ValueError: With the parameter's name and what was expected.
        """
        ...


@dataclass(frozen=True)
class RepeatedValue:
    """A list that holds ``value`` as often as ``times`` says; each with the number that upstream assumes."""

    value: tuple[str, Any]
    times: tuple[str, int]

    @property
    def takes(self) -> tuple[str, ...]:
        """Value and number."""
        return self.value[0], self.times[0]

    def made(self, given: Mapping[str, Any]) -> tuple[Any, str]:
        """The list."""
        name, assumed = self.times
        times = given.get(name, assumed)
        if not isinstance(times, int) or isinstance(times, bool) or not 0 <= times <= 1000:
            raise ValueError(f'"{name}": expected a number of layers, found {times!r}')
        return [given.get(*self.value)] * times, ""


@dataclass(frozen=True)
class Products:
    """Factors each relative to the one before, as factors of the first: 2, 1, 0.5 become 2, 2, 1."""

    factors: tuple[str, tuple[float, ...]]

    @property
    def takes(self) -> tuple[str, ...]:
        """The factors."""
        return (self.factors[0],)

    def made(self, given: Mapping[str, Any]) -> tuple[Any, str]:
        """The products."""
        name, assumed = self.factors
        factors = given.get(name, list(assumed))
        if not isinstance(factors, list) or not all(type(each) in {int, float} and each > 0 for each in factors):
            raise ValueError(f'"{name}": expected a list of factors above 0, found {factors!r}')
        return [math.prod(factors[: i + 1]) for i in range(len(factors))], ""


@dataclass(frozen=True)
class Lifted:
    """A count inside an object whose other keys have no effect, rounded up to what we can use."""

    holder: str
    keys: tuple[str, ...]
    at_least: int = 1
    multiple_of: int = 1
    rounding: str = ""
    others: str = ""

    @property
    def takes(self) -> tuple[str, ...]:
        """The object."""
        return (self.holder,)

    def made(self, given: Mapping[str, Any]) -> tuple[Any, str]:
        """The count."""
        inside = given.get(self.holder)
        if not isinstance(inside, dict):
            return None, ""
        name = next((key for key in self.keys if key in inside), None)
        if name is None:
            return None, self.others
        count = inside[name]
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise ValueError(f'"{self.holder}.{name}": expected a whole number above 0, found {count!r}')
        rounded = max(self.at_least, -(-count // self.multiple_of) * self.multiple_of)
        taken = f"{name} is used" if rounded == count else f"{rounded} is taken for {name} = {count} ({self.rounding})"
        return rounded, f"{taken}; {self.others}"


@dataclass(frozen=True)
class Counts:
    """Columns to counts: each count's parameter, the column or the parameter that names it, and the count that upstream assumes."""

    counts: tuple[tuple[str, str, int | None], ...]

    @property
    def takes(self) -> tuple[str, ...]:
        """Each count; the columns are used elsewhere too."""
        return tuple(name for name, _, _ in self.counts)

    def made(self, given: Mapping[str, Any]) -> tuple[Any, str]:
        """The counts."""
        pairs = ((given.get(column, column), given.get(name, assumed)) for name, column, assumed in self.counts)
        return {column: count for column, count in pairs if count is not None and isinstance(column, str)}, ""


@dataclass(frozen=True)
class Among:
    """The columns of a list that are inputs; labels become codes without being asked."""

    columns: str
    inputs: str
    label: str

    @property
    def takes(self) -> tuple[str, ...]:
        """The list."""
        return (self.columns,)

    def made(self, given: Mapping[str, Any]) -> tuple[Any, str]:
        """The columns."""
        columns, inputs, label = given.get(self.columns), given.get(self.inputs), given.get(self.label)
        if not isinstance(columns, list):
            return columns, ""
        labels = label if isinstance(label, list) else [label]
        kept = [each for each in columns if each not in labels and (not inputs or not isinstance(inputs, list) or each in inputs)]
        said = [f'"{each}" is the label, which becomes codes by itself' for each in columns if each in labels]
        said += [f'"{each}" is no input' for each in columns if each not in kept and each not in labels]
        return kept, "; ".join(said)


@dataclass(frozen=True)
class MovedBack:
    """The columns of a list, with some at its end: those that upstream takes out and puts back, which steps count by position.

    Args:
        columns: The list.
        last: What comes last, in order: columns, or the parameter that lists them.
    """

    columns: str
    last: tuple[tuple[str, ...] | str, ...]

    @property
    def takes(self) -> tuple[str, ...]:
        """The list; what comes last is used elsewhere too."""
        return (self.columns,)

    def made(self, given: Mapping[str, Any]) -> tuple[Any, str]:
        """The columns."""
        columns = given.get(self.columns)
        if not isinstance(columns, list):
            return columns, ""
        named = [given.get(each, ()) if isinstance(each, str) else each for each in self.last]
        last = [name for each in named if isinstance(each, list | tuple) for name in each if name in columns]
        moved = [name for name in columns if name not in last] + last
        said = "" if moved == columns else "columns that upstream takes out and puts back come last, where steps count them"
        return moved, said


@dataclass(frozen=True)
class Joined:
    """A path made of a folder and a file's name."""

    folder: str
    file: str

    @property
    def takes(self) -> tuple[str, ...]:
        """Folder and file."""
        return self.folder, self.file

    def made(self, given: Mapping[str, Any]) -> tuple[Any, str]:
        """The path."""
        parts = [given.get(name) for name in self.takes]
        missing = [name for name, part in zip(self.takes, parts, strict=True) if not isinstance(part, str) or not part]
        if missing:
            raise ValueError(f'"{missing[0]}": expected text, found {given.get(missing[0])!r}')
        return "/".join([str(parts[0]).rstrip("/"), str(parts[1])]), ""


@dataclass(frozen=True)
class ChosenValue:
    """One value for each of a few that upstream knows."""

    parameter: str
    values: Mapping[str, Any] = field(default_factory=dict)
    assumed: str = ""

    @property
    def takes(self) -> tuple[str, ...]:
        """The choice."""
        return (self.parameter,)

    def made(self, given: Mapping[str, Any]) -> tuple[Any, str]:
        """The chosen value."""
        written = str(given.get(self.parameter, self.assumed)).casefold()
        if written not in self.values:
            raise ValueError(f'"{self.parameter}": expected {" or ".join(self.values)}, found {given[self.parameter]!r}')
        return self.values[written], ""
