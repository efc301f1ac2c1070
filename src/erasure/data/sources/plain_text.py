"""Plain text that a language model is to learn, cut into chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, MinLen

from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.fields import NonEmptyNames
from erasure.data.language.vocabularies import BytePairs, Vocabulary
from erasure.data.reading.files import existing_file, file_digest
from erasure.errors import DataError
from erasure.functional.tokens import ANSWER, END, PROMPT, answer_tokens
from erasure.training.batches import TensorColumn
from erasure.types import Json

__all__ = ["PlainText"]


@dataclass(frozen=True, kw_only=True)
class PlainText(DataSource):
    """Text files in chunks of a number of tokens, each a sample; the group is the file.

    All tokens of a chunk but the first are learned. The last chunk of a file ends with the token that ends a text.

    Args:
        path: One file or a list of them; ``~`` is expanded.
        chunk_length: Tokens of a chunk.
        vocabulary: Makes tokens.
        name: How results call the data; by default the first file's name.
    """

    is_digested: ClassVar[bool] = True

    path: NonEmptyNames
    chunk_length: Annotated[int, Ge(2)] = 128
    vocabulary: Vocabulary = field(default_factory=BytePairs)
    name: Annotated[str, MinLen(1)] | None = None

    def fingerprint(self) -> Json:
        """SHA-256 of the files, and what the vocabulary depends on."""
        return {"sha256": [file_digest(each) for each in self.path], "vocabulary": self.vocabulary.fingerprint()}

    def load(self) -> Dataset:
        """Read the files, make tokens and cut."""
        texts = [self._text(each) for each in self.path]
        encoder = self.vocabulary.encoder(texts)
        chunks: list[tuple[int, list[int]]] = []
        for number, ids in enumerate(encoder.encode(texts, begins=True)):
            chunks += [(number, chunk) for chunk in _cut([*ids, encoder.end], self.chunk_length)]
        x = torch.zeros(len(chunks), 2, max(len(ids) for _, ids in chunks), dtype=torch.int64)
        for row, (_, ids) in enumerate(chunks):
            roles = [PROMPT] + [ANSWER] * (len(ids) - 1)
            if ids[-1] == encoder.end:
                roles[-1] = END
            x[row, 0, : len(ids)], x[row, 1, : len(ids)] = torch.tensor(ids), torch.tensor(roles)
        return Dataset(
            name=self.name or Path(self.path[0]).stem,
            x=TensorColumn(x),
            y=answer_tokens(x),
            z=torch.tensor([number for number, _ in chunks]),
            z_names=tuple(Path(each).name for each in self.path),
            n_classes=encoder.size,
            x_shape=tuple(x.shape[1:]),
            task="generation",
            modality="text",
            token_names=encoder.pieces,
        )

    def _text(self, path: str) -> str:
        try:
            text = existing_file(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f'"{path}" cannot be read as text: {error}') from error
        if not text.strip():
            raise DataError(f'"{path}" has no text')
        return text


def _cut(ids: Sequence[int], length: int) -> list[list[int]]:
    chunks = [list(ids[start : start + length]) for start in range(0, len(ids), length)]
    if len(chunks) > 1 and len(chunks[-1]) == 1:  # a token alone has nothing to be predicted from
        chunks.pop()
    return chunks
