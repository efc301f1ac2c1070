"""Plain text that a language model is to learn, cut into chunks."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from annotated_types import Ge, MinLen

from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.fields import NonEmptyNames, require_different
from erasure.data.language.chunks import chunks_of
from erasure.data.language.vocabularies import BytePairs, Vocabulary
from erasure.data.reading.files import existing_file, file_digest
from erasure.errors import DataError
from erasure.functional.tokens import answer_tokens
from erasure.training.batches import TensorColumn
from erasure.types import Json

__all__ = ["PlainText"]


@dataclass(frozen=True, kw_only=True)
class PlainText(DataSource):
    """Text files in chunks of a number of tokens, each a sample; the group is the file: its name, or its path where two
    have one name.

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

    def check(self) -> None:
        """No file is read twice."""
        require_different(self.path, "PlainText.path")

    def fingerprint(self) -> Json:
        """SHA-256 of the files, and what the vocabulary depends on."""
        return {"sha256": [file_digest(each) for each in self.path], "vocabulary": self.vocabulary.fingerprint()}

    def load(self) -> Dataset:
        """Read the files, make tokens and cut."""
        texts = [self._text(each) for each in self.path]
        encoder = self.vocabulary.encoder(texts)
        x, numbers = chunks_of(texts, encoder, self.chunk_length)
        names = tuple(Path(each).name for each in self.path)
        return Dataset(
            name=self.name or Path(self.path[0]).stem,
            x=TensorColumn(x),
            y=answer_tokens(x),
            z=torch.tensor(numbers),
            z_names=names if len(set(names)) == len(names) else self.path,
            n_classes=encoder.size,
            x_shape=tuple(x.shape[1:]),
            task="generation",
            modality="text",
            token_names=encoder.pieces,
        )

    def _text(self, path: str) -> str:
        try:
            text = existing_file(path).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f'"{path}" cannot be read as text: {error}') from error
        if not text.strip():
            raise DataError(f'"{path}" has no text')
        return text
