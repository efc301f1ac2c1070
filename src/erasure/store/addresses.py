"""Content addresses: one name for everything that goes into a stage's result.

An address is the SHA-256 of the canonical JSON of what the result depends on, so equal stages share a name wherever and whenever
they are planned, and any change of a parameter, an input or a seed gives another one.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path

from erasure.errors import StoreError
from erasure.types import Json

__all__ = ["FORMAT_VERSION", "address", "canonical_json", "check_address", "file_digest", "plain_json"]

FORMAT_VERSION = 1
"""Version of the store's layout and of the addresses; part of every address."""

_ADDRESS = re.compile(r"[0-9a-f]{64}")
_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def address(kind: str, content: Json) -> str:
    """Content address of a result.

    Args:
        kind: What the result is, such as ``model`` or ``rows``.
        content: Everything the result depends on, as JSON; the order of keys does not matter, ``1`` and ``1.0`` differ.

    Returns:
        64 lower-case hexadecimal digits.

    Raises:
        StoreError: If ``content`` has no JSON form; names the key.

    Example:
        >>> address("model", {"seed": 0, "epochs": 2}) == address("model", {"epochs": 2, "seed": 0})
        True
    """
    named = {"kind": kind, "content": plain_json(content, "content"), "format": FORMAT_VERSION}
    return hashlib.sha256(canonical_json(named).encode()).hexdigest()


def check_address(text: str) -> str:
    """``text``, if it is an address; it becomes part of a path.

    Raises:
        StoreError: If it is not.
    """
    if _ADDRESS.fullmatch(text) is None:
        raise StoreError(f"Expected an address of 64 hexadecimal digits, found {text!r}.")
    return text


def canonical_json(value: Json) -> str:
    """The one text of a JSON value: sorted keys, no white space, floats in their shortest form that reads back equal.

    Args:
        value: JSON as :func:`plain_json` returns it.
    """
    return _CANONICAL.encode(value)


def plain_json(value: Json, where: str) -> Json:
    """A copy of ``value`` that JSON can hold without loss; tuples become lists.

    ``json.dumps`` would silently write the key ``1`` as ``"1"``, and NaN as a word that other readers refuse.

    Args:
        value: What to copy.
        where: The name of ``value`` in error messages.

    Raises:
        StoreError: If a part has no JSON form, is not finite, or a key is not a string; names the part.
    """
    try:
        return _plain(value)
    except _NotPlainError:
        return _named(value, where)


class _NotPlainError(Exception):
    """A part has no JSON form; which one is looked for only then."""


def _plain(value: Json) -> Json:
    """The copy, without keeping count of where a part stands: most of what has an address has hundreds of parts."""
    kind = type(value)
    if kind is str:
        if value.isascii():
            return value
    elif kind is dict:
        plain = {}
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                raise _NotPlainError
            plain[key] = _plain(item)
        return plain
    elif kind is list or kind is tuple:
        return [_plain(item) for item in value]
    elif value is None or kind is bool or kind is int or (kind is float and math.isfinite(value)):
        return value
    raise _NotPlainError


def _named(value: Json, where: str) -> Json:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _checked_text(value, where)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise StoreError(f"{where} is {float(value)}, which JSON cannot hold; store null and the reason beside it.")
        return float(value)
    if isinstance(value, list | tuple):
        return [_named(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, dict):
        return {_checked_key(key, where): _named(item, f"{where}.{key}") for key, item in value.items()}
    raise StoreError(
        f"{where} is a {type(value).__name__}, which has no JSON form; use dict, list, str, int, float, bool or None."
    )


def _checked_key(key: object, where: str) -> str:
    if not isinstance(key, str):
        raise StoreError(f"{where} has the key {key!r}; a JSON key is a string.")
    return _checked_text(key, f"A key of {where}")


def _checked_text(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise StoreError(f"{where} is {text!r}, which is not valid Unicode text.") from None
    return str(text)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
