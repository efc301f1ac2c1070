"""MUSE: news or a novel to forget, with what is asked about them, from the files of the benchmark."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, MinLen
from torch import Tensor

from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.fields import NonEmptyNames, require_different
from erasure.data.language.chunks import chunks_of
from erasure.data.language.exchanges import Exchange, dataset_of, require_template, texts_of
from erasure.data.language.vocabularies import BytePairs, Vocabulary
from erasure.data.reading.files import existing_file, file_digest
from erasure.data.sources.prompts_and_answers import read_rows, text_in
from erasure.errors import DataError
from erasure.functional.tokens import answer_tokens
from erasure.training.batches import TensorColumn
from erasure.types import Json, Source

__all__ = ["MUSE"]

_ENDINGS = (".json", ".jsonl", ".txt", "-00000-of-00001.parquet", ".parquet")
_READ = ("raw/forget", "raw/retain2", "raw/holdout", "verbmem/forget", "knowmem/forget_qa", "knowmem/retain_qa")


@dataclass(frozen=True, kw_only=True)
class MUSE(DataSource):
    """MUSE: texts to forget and to keep in chunks, beginnings that a model may recite, and questions about what the texts say.

    The folder has the benchmark's layout: ``raw`` with plain texts, ``verbmem`` with ``prompt`` and ``gt``, ``knowmem`` with ``question``
    and ``answer``, ``sust`` and ``scal`` with forget sets that follow each other; as JSON, JSON lines, Parquet or text. Each file is a
    group of its own, called by folder and name, such as ``raw/forget`` or ``knowmem/retain_qa``, so that partitions are cut by group: train
    on ``raw/forget`` and ``raw/retain2``, keep ``raw/holdout`` as test, and measure :class:`~erasure.measures.muse.VerbMem` and
    :class:`~erasure.measures.muse.KnowMem` on the groups that are made for them.

    Args:
        path: Folder of the benchmark's files.
        files: Which of them, without endings, in this order.
        chunk_length: Tokens of a chunk of plain text.
        vocabulary: Makes tokens.
        template: How questions are written, with ``{prompt}`` and ``{answer}``.
        max_length: Tokens of a question with its answer, or of a beginning with its continuation; longer answers are cut.
    """

    is_digested: ClassVar[bool] = True

    source: ClassVar[Source | None] = Source(
        paper="Shi et al., ICLR 2025, arXiv:2407.06460",
        code="jaechan-repo/muse_bench at 54719c5",
        tested="made-up texts in the layout of the files (tests/unit/language/test_muse_files.py)",
        deviations=(
            "Prompt and continuation are turned into tokens apart and joined; the original code cuts tokens of the text.",
        ),
    )

    path: Annotated[str, MinLen(1)]
    files: NonEmptyNames = _READ
    chunk_length: Annotated[int, Ge(2)] = 128
    vocabulary: Vocabulary = field(default_factory=BytePairs)
    template: str = "Question: {prompt}\nAnswer: {answer}"
    max_length: Annotated[int, Ge(2)] = 256

    def check(self) -> None:
        """The template must say where question and answer stand."""
        require_template(self.template, "MUSE")
        require_different(self.files, "MUSE.files")

    def fingerprint(self) -> Json:
        """SHA-256 of the files, and what the vocabulary depends on."""
        digests = {each: file_digest(str(self._file(each))) for each in self.files}
        return {"sha256": digests, "vocabulary": self.vocabulary.fingerprint()}

    def load(self) -> Dataset:
        """Read the files and make tokens."""
        found = {name: list(self._contents(name)) for name in self.files}
        exchanges = {name: [each for each in rows if isinstance(each, Exchange)] for name, rows in found.items()}
        texts = [each for rows in found.values() for each in rows if isinstance(each, str)]
        written = [text for name, rows in exchanges.items() for text in texts_of(rows, self._template(name))]
        encoder = self.vocabulary.encoder([*texts, *written])
        parts: list[Tensor] = []
        for name, rows in found.items():
            if rows and isinstance(rows[0], str):
                parts.append(chunks_of([each for each in rows if isinstance(each, str)], encoder, self.chunk_length)[0])
            else:
                made = dataset_of(
                    name, exchanges[name], encoder=encoder, template=self._template(name), max_length=self.max_length
                )
                parts.append(made.x.gather(torch.arange(len(made))))
        longest = max(part.shape[2] for part in parts)
        x = torch.cat([torch.nn.functional.pad(part, (0, longest - part.shape[2])) for part in parts])
        return Dataset(
            name="MUSE",
            x=TensorColumn(x),
            y=answer_tokens(x),
            z=torch.repeat_interleave(torch.arange(len(parts)), torch.tensor([len(part) for part in parts])),
            z_names=self.files,
            n_classes=encoder.size,
            x_shape=tuple(x.shape[1:]),
            task="generation",
            modality="text",
            token_names=encoder.pieces,
        )

    def _template(self, name: str) -> str:
        """Texts go on where their beginning stops."""
        return "{prompt}{answer}" if name.startswith("verbmem/") else self.template

    def _file(self, name: str) -> Path:
        folder = Path(self.path).expanduser()
        for ending in _ENDINGS:
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
        raise DataError(
            f'the folder "{self.path}" has no "{name}" ({", ".join(_ENDINGS)}); it should have the layout of the benchmark, '
            "with raw, verbmem and knowmem"
        )

    def _contents(self, name: str) -> Iterator[Exchange | str]:
        """Questions with answers, beginnings with continuations, or texts."""
        file, kinds = self._file(name), set()
        for number, row in enumerate(_rows(file), start=1):
            content = _content(row if isinstance(row, dict) else {"text": row, "": f'"{file}", text {number}'})
            kinds.add(type(content))
            if len(kinds) > 1:
                raise DataError(
                    f'"{file}" has texts and questions or beginnings in it, from row {number} on; put them into files of their own'
                )
            yield content
        if not kinds:
            raise DataError(f'"{file}" is empty')


def _content(row: dict[str, Any]) -> Exchange | str:
    if "question" in row:
        return Exchange(prompt=text_in(row, "question"), answer=text_in(row, "answer"))
    if "prompt" in row:
        return Exchange(prompt=text_in(row, "prompt"), answer=text_in(row, "gt"))
    text = text_in(row, "text")
    if not text.strip():
        raise DataError(f"{row['']} is empty")
    return text


def _rows(file: Path) -> Iterator[dict[str, Any] | str]:
    """Rows by the names of their columns, or texts."""
    if file.suffix == ".txt":
        try:
            yield existing_file(str(file)).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f'"{file}" cannot be read as text: {error}') from error
        return
    if file.suffix == ".json":
        try:
            whole = json.loads(existing_file(str(file)).read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError):
            whole = None  # lines of JSON, or what cannot be read: the reader of rows says so
        if isinstance(whole, list) and whole and all(isinstance(each, str) for each in whole):
            yield from whole
            return
    yield from read_rows(str(file))
