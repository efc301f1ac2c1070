"""Tokenizers of pretrained models, and how their tokens read."""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

from erasure.errors import DataError, MissingDependency
from erasure.token_texts import piece_of
from erasure.training.torchvision_operators import torchvision

__all__ = ["pieces_of", "pretrained_tokenizer", "spaced", "written_bytes"]

_CLOSING = frozenset(".,;:!?)]}%")
"""Marks that are written without a space before them."""

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
"""A byte in a vocabulary of sentence pieces, for characters that have no piece."""

_PRINTED = (*range(33, 127), *range(161, 173), *range(174, 256))
_OF_LETTERS = {chr(byte): byte for byte in _PRINTED} | {
    chr(256 + k): byte for k, byte in enumerate(byte for byte in range(256) if byte not in _PRINTED)
}
"""Bytes by the letters that byte-level vocabularies write them as: their own where that can be seen, else those from 256 on."""

_OF_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")
"""Files one of which a saved tokenizer has."""


def pretrained_tokenizer(path: str, download: bool) -> Any:
    """A tokenizer of transformers, from a local folder or by its name on the hub.

    Args:
        path: Folder, GGUF file or name.
        download: Whether it may be fetched; otherwise it must be there or in the local cache.

    Raises:
        DataError: If there is none.
        MissingDependency: If transformers is not installed.
    """
    with suppress(MissingDependency):
        # transformers imports torchvision where it is installed, whose operators may not load beside this build of torch.
        torchvision("transforms", "a tokenizer")
    try:
        from transformers import AutoTokenizer
    except ModuleNotFoundError as error:
        raise MissingDependency(error.name or "transformers", "text", f'the tokenizer "{path}"') from error
    folder = Path(path).expanduser()
    local = folder.is_dir()
    if local and not any((folder / name).is_file() for name in _OF_TOKENIZERS):
        raise DataError(
            f'the folder "{path}" has no tokenizer (none of {", ".join(_OF_TOKENIZERS)}): save it there too, with '
            "tokenizer.save_pretrained, or name the folder of another one"
        )
    where, options = (str(folder) if local else path), {}
    if folder.is_file():  # a GGUF file has a tokenizer with its weights
        where, options, local = str(folder.parent), {"gguf_file": folder.name}, True
    try:
        return AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call, unused-ignore]
            where, local_files_only=local or not download, trust_remote_code=False, **options
        )
    except (OSError, ValueError, LookupError, RuntimeError, ImportError, TypeError, struct.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = f"{type(error).__name__}: {reason}" if isinstance(error, LookupError) else reason
        remedy = "; give a local folder" + ("" if download else ", or set download to true")
        remedy = "; see whether its files are whole, and which libraries they need" if local else remedy
        raise DataError(f'the tokenizer "{path}" cannot be loaded ({reason}){remedy}') from error


def pieces_of(tokenizer: Any) -> tuple[str, ...]:
    """How each token of a pretrained vocabulary reads, by the marks that word pieces, sentence pieces and byte pairs put on theirs."""
    known = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    by_id = {number: piece for piece, number in known.items() if number not in special}
    begin = next((mark for mark in ("Ġ", "▁") if any(piece.startswith(mark) for piece in by_id.values())), None)

    def read(piece: str) -> str:
        if begin is None:
            return piece[2:] if piece.startswith("##") else spaced(piece)
        if begin == "Ġ":
            return written_bytes(piece)
        byte = _BYTE.fullmatch(piece)
        return piece_of(bytes([int(byte[1], 16)])) if byte else piece.replace(begin, " ")

    return tuple(read(by_id[number]) if number in by_id else "" for number in range(max(by_id, default=-1) + 1))


def written_bytes(piece: str) -> str:
    """How a token reads whose bytes are written as letters, as byte-level vocabularies do; one that was added is written as it reads."""
    if all(letter in _OF_LETTERS for letter in piece):
        return piece_of(bytes(_OF_LETTERS[letter] for letter in piece))
    return piece


def spaced(word: str) -> str:
    """A word with the space that is written before it."""
    return word if word in _CLOSING or not word else f" {word}"
