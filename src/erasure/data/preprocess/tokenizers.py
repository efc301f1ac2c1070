"""What cuts texts into tokens for the step ``Tokenize``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, MinLen
from torch import Tensor

from erasure.component import Component
from erasure.data.text import hashed_tokens, pretrained_fingerprint, pretrained_tokens
from erasure.training.tokenizers import pretrained_tokenizer
from erasure.types import Json, PositiveInt

__all__ = ["Pretrained", "Tokenizer", "Words"]


@dataclass(frozen=True, kw_only=True)
class Tokenizer(Component):
    """Cuts texts into tokens.

    Args:
        max_length: Tokens of each text; longer ones are cut, shorter ones filled up.
    """

    kind: ClassVar[str] = "tokenizer"

    max_length: PositiveInt = 128

    def fingerprint(self) -> Json:
        """What the tokens depend on beside the parameters."""
        return None

    def tokens(self, texts: list[str]) -> tuple[Tensor, tuple[str, ...]]:
        """Ids and, below them, 1 where there is a token: ``(N, 2, max_length)``, int64; and how each id reads, space before it."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Pretrained(Tokenizer):
    """A tokenizer of transformers, such as that of a pretrained encoder; its special tokens are included.

    Args:
        name_or_path: A local folder, or a name on the hub.
        download: Whether it may be fetched if it is not on this machine.
    """

    name_or_path: Annotated[str, MinLen(1)]
    download: bool = field(default=False, metadata={"address": False})

    def fingerprint(self) -> Json:
        """Digest of a local folder, and the version of the library."""
        return pretrained_fingerprint(self.name_or_path)

    def tokens(self, texts: list[str]) -> tuple[Tensor, tuple[str, ...]]:
        """Tokens of the pretrained vocabulary."""
        return pretrained_tokens(texts, pretrained_tokenizer(self.name_or_path, self.download), self.max_length, attention=True)


@dataclass(frozen=True, kw_only=True)
class Words(Tokenizer):
    """Words and punctuation marks, each numbered by itself, so that nothing is fitted; different words may share a number.

    Args:
        vocabulary_size: Ids in all, 0 for padding included; models need the same number.
        lowercase: Whether case is ignored.
    """

    vocabulary_size: Annotated[int, Ge(3)] = 30_000
    lowercase: bool = True

    def tokens(self, texts: list[str]) -> tuple[Tensor, tuple[str, ...]]:
        """Tokens by the hash of each word."""
        ids, names = hashed_tokens(texts, self.max_length, self.vocabulary_size, self.lowercase)
        return torch.stack([ids, (ids != 0).to(torch.int64)], dim=1), names
