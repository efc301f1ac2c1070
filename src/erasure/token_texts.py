"""How tokens read one after the other, those too that hold parts of characters."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["piece_of", "text_of_pieces"]

_FIRST = 0x10FF00
"""A byte that is no character by itself is written as the character this many places on, which is for private use and in no text."""

_KEPT = {0xDC00 + byte: _FIRST + byte for byte in range(128, 256)}
_GIVEN_BACK = {private: escaped for escaped, private in _KEPT.items()}


def piece_of(data: bytes) -> str:
    r"""How the bytes of a token read; parts of characters are kept as such.

    Args:
        data: UTF-8, which may begin or end inside a character.

    Example:
        >>> text_of_pieces([piece_of(b"the \xc3"), piece_of(b"\xa9")])
        'the é'
    """
    return data.decode("utf-8", "surrogateescape").translate(_KEPT)


def text_of_pieces(pieces: Iterable[str]) -> str:
    r"""The text of tokens one after the other; a part of a character without the rest of it reads ``\ufffd``."""
    text = "".join(pieces)
    if text.isascii():
        return text
    return text.translate(_GIVEN_BACK).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
