"""Sizes, ages and addresses as people type and read them."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING, Any

import click

from erasure.errors import ConfigError, Diagnostic

if TYPE_CHECKING:
    from erasure.store import Store

__all__ = ["AGE", "DURATION", "SIZE", "address_of", "age_of", "shown_age", "shown_duration", "shown_size"]

_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class _Amount(click.ParamType):  # type: ignore[type-arg] # generic in newer versions of click only
    """A number with a unit."""

    def __init__(self, name: str, units: dict[str, int], example: str) -> None:
        self.name, self._units, self._example = name, units, example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        match = _AMOUNT.fullmatch(str(value).strip())
        if match is None or match[2].casefold() not in self._units:
            self.fail(f'"{value}" is no {self.name}; write for example {self._example}', param, ctx)
        return float(match[1]) * self._units[match[2].casefold()]


SIZE = _Amount("size", _BYTES, "500kB, 20MB or 1.5GiB")
AGE = _Amount("age", _SECONDS, "90m, 12h, 30d or 2w")
DURATION = _Amount("time", {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}, "90s, 30min or 2h")


def shown_size(size: float) -> str:
    """A size in three digits.

    Example:
        >>> shown_size(1_234_567)
        '1.23 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} B" if unit == "B" else f"{size:.3g} {unit}" if size < 1000 else f"{size:.0f} {unit}"
        size /= 1000
    raise AssertionError


def age_of(created_at: str) -> float:
    """Seconds since a time in ISO 8601; 0 for what cannot be read, so that it never counts as old."""
    try:
        created = datetime.datetime.fromisoformat(created_at)
        return max(0.0, (datetime.datetime.now(datetime.UTC) - created).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def shown_age(seconds: float) -> str:
    """An age in its largest unit.

    Example:
        >>> shown_age(200_000)
        '2d'
    """
    for unit in ("w", "d", "h", "m"):
        if seconds >= _SECONDS[unit] * (2 if unit == "w" else 1):
            return f"{seconds / _SECONDS[unit]:.0f}{unit}"
    return f"{seconds:.0f}s"


def shown_duration(seconds: float) -> str:
    """How long something takes, in the two largest units.

    Example:
        >>> shown_duration(75.4), shown_duration(3.2), shown_duration(7300)
        ('1 min 15 s', '3 s', '2 h 1 min')
    """
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def address_of(store: Store, text: str) -> str:
    """The address that ``text`` is or begins.

    Raises:
        ConfigError: If no object or more than one begins so, or there are fewer than six digits.
    """
    prefix = text.strip().casefold()
    if re.fullmatch(r"[0-9a-f]{6,64}", prefix) is None:
        raise _not_an_address(f'"{text}" is no address', "give at least its first six hexadecimal digits")
    found = store.matching(prefix)
    if not found:
        raise _not_an_address(f'no object in {store.root} begins with "{text}"', "erasure store list shows what there is")
    if len(found) > 1:
        several = ", ".join(address[: len(prefix) + 4] for address in found[:5])
        raise _not_an_address(f'{len(found)} objects begin with "{text}"', f"give more digits: {several}")
    return found[0]


def _not_an_address(message: str, hint: str) -> ConfigError:
    return ConfigError([Diagnostic(message, hint=hint, kind="data")])
