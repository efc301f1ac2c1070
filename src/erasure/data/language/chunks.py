"""Plain texts cut into samples of a number of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from erasure.data.language.vocabularies import Encoder
from erasure.functional.tokens import ANSWER, END, PROMPT

__all__ = ["chunks_of"]


def chunks_of(texts: Sequence[str], encoder: Encoder, length: int) -> tuple[Tensor, list[int]]:
    """Stored inputs ``(n, 2, L)`` of texts in chunks, all tokens but the first learned, and which text each is from.

    The last chunk of a text ends with the token that ends a text.

    Args:
        texts: None of them empty.
        encoder: Makes tokens.
        length: Tokens of a chunk.
    """
    chunks: list[tuple[int, list[int], bool]] = []
    for number, ids in enumerate(encoder.encode(texts, begins=True)):
        chunks += [(number, chunk, is_end) for chunk, is_end in _cut([*ids, encoder.end], length)]
    x = torch.zeros(len(chunks), 2, max((len(ids) for _, ids, _ in chunks), default=1), dtype=torch.int64)
    for row, (_, ids, is_end) in enumerate(chunks):
        roles = [PROMPT] + [ANSWER] * (len(ids) - 1)
        if is_end:
            roles[-1] = END
        x[row, 0, : len(ids)], x[row, 1, : len(ids)] = torch.tensor(ids), torch.tensor(roles)
    return x, [number for number, _, _ in chunks]


def _cut(ids: Sequence[int], length: int) -> list[tuple[list[int], bool]]:
    """Chunks, and whether each reaches the end; by its place, for a text may have the token that ends texts inside."""
    chunks = [(list(ids[start : start + length]), start + length >= len(ids)) for start in range(0, len(ids), length)]
    if len(chunks) > 1 and len(chunks[-1][0]) == 1:  # a token alone has nothing to be predicted from
        chunks.pop()
    return chunks
