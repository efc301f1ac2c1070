"""Texts as token ids: one row of whole numbers a text, padded with 0; and how each id reads, so that people can be shown the text."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from erasure.data.reading.files import file_digest
from erasure.data.reading.folders import folder_digest
from erasure.errors import DataError
from erasure.training.tokenizers import pieces_of, spaced
from erasure.types import Json

__all__ = [
    "PADDING",
    "UNKNOWN",
    "fitted_tokens",
    "hashed_tokens",
    "library_version",
    "pretrained_fingerprint",
    "pretrained_tokens",
    "words",
]

PADDING = 0
"""Id of what fills a row up; a model masks it by ``ids != 0``."""

UNKNOWN = 1
"""Id of words outside a fitted vocabulary."""

_WORD = re.compile(r"\w+(?:'\w+)*|[^\w\s]")
_CHUNK = 4096
_SHARING = 3
"""Words that are shown of those that share an id."""


def words(text: str, lowercase: bool = True) -> list[str]:
    """The words of a text and, one by one, its punctuation marks.

    Example:
        >>> words("Don't panic!")
        ["don't", 'panic', '!']
    """
    return _WORD.findall(text.lower() if lowercase else text)


def hashed_tokens(
    texts: Iterable[str], max_length: int, vocabulary_size: int, lowercase: bool = True
) -> tuple[Tensor, tuple[str, ...]]:
    """Token ids that depend on each word alone, so that nothing is fitted and no text tells about another.

    Args:
        texts: The texts.
        max_length: Tokens kept of each; the rest is cut off.
        vocabulary_size: Ids are in ``[1, vocabulary_size)``; different words may share one.
        lowercase: Whether case is ignored.

    Returns:
        ``(N, max_length)``, int64, filled up with 0; and how each id reads, with the space before it. A text without words
        is the one token of the empty word.
    """
    ids: dict[str, int] = {}

    def row(text: str) -> list[int]:
        found = words(text, lowercase)[:max_length] or [""]
        for word in found:
            if word not in ids:
                digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
                ids[word] = 1 + int.from_bytes(digest, "little") % (vocabulary_size - 1)
        return [ids[word] for word in found]

    matrix = _matrix((row(text) for text in texts), max_length)
    by_id: dict[int, list[str]] = {}
    for word, number in ids.items():
        by_id.setdefault(number, []).append(word)
    shown = {number: "|".join(sorted(found)[:_SHARING]) for number, found in by_id.items()}
    return matrix, tuple(spaced(shown.get(number, "")) for number in range(max(shown, default=0) + 1))


def fitted_tokens(
    texts: Sequence[str], max_length: int, vocabulary_size: int, lowercase: bool = True
) -> tuple[Tensor, tuple[str, ...]]:
    """Token ids by a vocabulary of the most frequent words of all the texts.

    The vocabulary tells which words occur anywhere in the texts, forgotten and test ones included.

    Args:
        texts: The texts.
        max_length: Tokens kept of each; the rest is cut off.
        vocabulary_size: Ids in all, 0 for padding and 1 for unknown words included.
        lowercase: Whether case is ignored.

    Returns:
        ``(N, max_length)``, int64, filled up with 0; and how each id reads, with the space before it: words are numbered from 2, most
        frequent first, ties in order.
    """
    split = [words(text, lowercase) for text in texts]
    counts = Counter(word for row in split for word in row)
    kept = sorted(counts, key=lambda word: (-counts[word], word))[: max(0, vocabulary_size - 2)]
    ids = {word: position for position, word in enumerate(kept, start=2)}
    rows = ([ids.get(word, UNKNOWN) for word in row[:max_length]] or [UNKNOWN] for row in split)
    return _matrix(rows, max_length), ("", " [unknown]", *map(spaced, kept))


def library_version(package: str) -> str | None:
    """The installed version of a package; None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def pretrained_fingerprint(name_or_path: str) -> Json:
    """What the tokens of a pretrained tokenizer depend on: the digest of a local folder or file, and the version of transformers."""
    place = Path(name_or_path).expanduser()
    found = {"transformers": library_version("transformers"), "folder": folder_digest(place)}
    return {**found, "file": file_digest(str(place))} if place.is_file() else found


def pretrained_tokens(
    texts: Sequence[str], tokenizer: Any, max_length: int, attention: bool = False
) -> tuple[Tensor, tuple[str, ...]]:
    """Token ids as a pretrained model reads them, its special tokens included.

    Args:
        texts: The texts.
        tokenizer: From :func:`~erasure.training.tokenizers.pretrained_tokenizer`.
        max_length: Tokens kept of each, special ones included.
        attention: Whether the mask comes along; tokenizers that do not pad with 0 need it.

    Returns:
        ``(N, max_length)``, int64; with ``attention`` ``(N, 2, max_length)``: ids and, below them, 1 where there is a token. And how
        each id reads, with the space before it, empty for special tokens.

    Raises:
        DataError: If the tokenizer's padding is not 0 and no mask is asked for.
    """
    padding = tokenizer.pad_token_id
    if padding != PADDING and not attention:
        found = "has no padding" if padding is None else f"pads with {padding}"
        raise DataError(f"the tokenizer {found}, so that the mask cannot be distinguished from the ids; set attention to true")
    spare = next((i for i in (tokenizer.unk_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id) if i is not None), 1)
    lengths: list[int] = []

    def rows() -> Iterator[list[int]]:
        for start in range(0, len(texts), _CHUNK):
            chunk = list(texts[start : start + _CHUNK])
            encoded = tokenizer(chunk, truncation=True, max_length=max_length, return_attention_mask=False)["input_ids"]
            for ids in encoded:
                found = ids or [spare]
                lengths.append(len(found))
                yield found

    matrix = _matrix(rows(), max_length, padding if padding is not None else PADDING)
    if attention:
        mask = torch.arange(max_length)[None] < torch.tensor(lengths)[:, None]
        matrix = torch.stack([matrix, mask.to(torch.int64)], dim=1)
    return matrix, pieces_of(tokenizer)


def _matrix(rows: Iterable[Sequence[int]], max_length: int, padding: int = PADDING) -> Tensor:
    blocks: list[npt.NDArray[np.int64]] = []
    for row in rows:
        line = np.full(max_length, padding, dtype=np.int64)
        line[: len(row)] = row
        blocks.append(line)
    return torch.from_numpy(np.stack(blocks)) if blocks else torch.empty((0, max_length), dtype=torch.int64)
