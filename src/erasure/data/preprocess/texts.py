"""Steps for texts: joined, searched, and turned into tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from erasure.data.fields import NonEmptyNames
from erasure.data.preprocess.contract import Columns, Step
from erasure.data.preprocess.samples import Field, Fields, Samples, names_of, objects
from erasure.data.preprocess.tokenizers import Tokenizer
from erasure.data.text import PADDING
from erasure.errors import DataError, InvalidParameters
from erasure.types import Json

__all__ = ["ContainsText", "JoinColumns", "MatchPatterns", "Tokenize", "joined"]


@dataclass(frozen=True, kw_only=True)
class JoinColumns(Step):
    """Input columns become one text a sample, joined by spaces in the order given.

    Args:
        columns: Columns by name or by position from 0; empty for all. The others are no inputs any more.
    """

    columns: Columns = ()

    def apply(self, samples: Samples) -> Samples:
        """Join the columns."""
        return replace(samples, x={"text": Field(joined(samples.inputs, self.columns))}, modality="text", categorical=())


@dataclass(frozen=True, kw_only=True)
class ContainsText(Step):
    """The group is 1 if any of some strings occurs in the sample's texts, else 0.

    Args:
        contains: The strings, as they are written; case counts.
    """

    contains: NonEmptyNames

    def apply(self, samples: Samples) -> Samples:
        """Search the texts."""
        columns = [each.values for each in samples.inputs.values() if each.is_text]
        if not columns:
            raise DataError("the inputs have no column of text to search")
        found = [any(each in text for text in row for each in self.contains) for row in zip(*columns, strict=True)]
        shown = ", ".join(self.contains)
        return replace(samples, z={"contains": Field(np.array(found, dtype=np.int64), (f"without {shown}", f"with {shown}"))})


@dataclass(frozen=True, kw_only=True)
class MatchPatterns(Step):
    """The group becomes the number of the first pattern found in it, counted from 1, or 0 where none is.

    Args:
        patterns: Regular expressions, searched for anywhere in the group's text (its name, where it is a code).
    """

    patterns: NonEmptyNames

    def check(self) -> None:
        """Expressions that can be read."""
        for position, pattern in enumerate(self.patterns):
            try:
                re.compile(pattern)
            except re.error as error:
                raise InvalidParameters(
                    f"MatchPatterns.patterns[{position}]: {pattern!r} is no regular expression: {error}"
                ) from None

    def apply(self, samples: Samples) -> Samples:
        """Match the groups."""
        fields = samples.part("z")
        if len(fields) > 1:
            raise DataError(f"z has {len(fields)} columns ({', '.join(fields)}), expected one to match")
        (name, column), *_ = fields.items()
        texts = column.texts()
        if texts is None:
            if column.values.ndim > 1 or column.values.dtype == object:
                raise DataError(f'"{name}" holds several values a sample, expected one text')
            texts = objects([str(value) for value in column.values.tolist()])
        compiled = [re.compile(pattern) for pattern in self.patterns]
        known = {
            text: next((code for code, each in enumerate(compiled, 1) if each.search(text)), 0) for text in dict.fromkeys(texts)
        }
        codes = np.array([known[text] for text in texts], dtype=np.int64)
        return replace(samples, z={name: Field(codes, ("no pattern", *self.patterns))})


@dataclass(frozen=True, kw_only=True)
class Tokenize(Step):
    """The inputs, as one text a sample, become token ids and the mask that says where there is a token: ``(2, max_length)``.

    Encoders take that form, whatever the tokenizer pads with; without ``attention`` the ids stand alone, as small networks want them.

    Args:
        tokenizer: What cuts texts into tokens: ``Pretrained`` or ``Words``.
        columns: Columns that make up the text, by name or position, joined by spaces; empty for all.
        attention: Whether the mask comes along; otherwise it is ``ids != 0``, which tokenizers that pad with another id refuse.
    """

    tokenizer: Tokenizer
    columns: Columns = ()
    attention: bool = True

    def fingerprint(self) -> Json:
        """That of the tokenizer."""
        return self.tokenizer.fingerprint()

    def apply(self, samples: Samples) -> Samples:
        """Tokenise the texts."""
        tokens, names = self.tokenizer.tokens(joined(samples.inputs, self.columns).tolist())
        if not self.attention:
            ids, mask = tokens.unbind(dim=1)
            if not torch.equal(ids != PADDING, mask != 0):
                raise DataError(
                    "the mask cannot be distinguished from the ids, for the tokenizer does not pad with 0; set attention to true"
                )
            tokens = ids
        return replace(samples, x={"tokens": Field(tokens.numpy(), names)}, modality="text", categorical=())


def joined(fields: Fields, columns: Columns | Sequence[str]) -> npt.NDArray[Any]:
    """One text a sample: the columns joined by spaces; empty for all.

    Raises:
        DataError: If a column does not exist, or holds several values a sample.
    """
    chosen = names_of(fields, columns, "x") if columns else list(fields)
    lists = [name for name in chosen if fields[name].values.ndim > 1 or not _is_plain(fields[name])]
    if lists:
        raise DataError(f'column "{lists[0]}" holds several values a sample, expected texts')
    return objects([" ".join(map(str, row)) for row in zip(*(fields[name].values.tolist() for name in chosen), strict=True)])


def _is_plain(column: Field) -> bool:
    return column.values.dtype != object or column.is_text
