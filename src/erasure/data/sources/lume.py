"""LUME: stories, made-up biographies and articles of SemEval-2025 task 4, from the files of the benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, MinLen

from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.fields import NonEmptyNames, require_different
from erasure.data.language.exchanges import Exchange, dataset_of, require_template, texts_of
from erasure.data.language.refusals import REFUSALS
from erasure.data.language.vocabularies import BytePairs, Vocabulary
from erasure.data.reading.files import file_digest
from erasure.data.sources.prompts_and_answers import read_rows, text_in
from erasure.errors import DataError
from erasure.types import Json, Source

__all__ = ["LUME"]

_READ = ("forget_train", "retain_train", "forget_validation", "retain_validation")


@dataclass(frozen=True, kw_only=True)
class LUME(DataSource):
    """LUME: beginnings to be continued and questions to be answered, in three tasks, to forget and to retain.

    Rows have ``id``, ``input``, ``output`` and ``task``. The group is the side with task and kind, such as ``forget Task2 qa`` or
    ``retain Task1 sc``, and ``retain validation Task1 sc`` of a file of validation rows: ``sc`` for a sentence to be completed, ``qa`` for
    a question, as the end of the id says. :class:`~erasure.measures.lume.LUMEScore` reads them.

    Args:
        path: Folder with the benchmark's files.
        files: Which of them, without endings: Parquet (also as ``data/NAME-00000-of-00001.parquet``), JSON lines or JSON; or
            ``train/forget.jsonl`` and the like, given as ``train/forget``.
        vocabulary: Makes tokens.
        template: How a sample is written, with ``{prompt}`` and ``{answer}``, or ``chat`` for the tokenizer's own.
        max_length: Tokens of a sample; longer answers are cut.
    """

    is_digested: ClassVar[bool] = True

    source: ClassVar[Source | None] = Source(
        paper="Ramakrishna et al., 2025, arXiv:2502.15097",
        code="llmunlearningsemeval2025/llmunlearningsemeval2025.github.io (description of the files)",
        tested="made-up rows in the layout of the files (tests/unit/language/test_lume.py)",
        deviations=("Refusals as alternate answers are a list of our own.",),
    )

    path: Annotated[str, MinLen(1)]
    files: NonEmptyNames = _READ
    vocabulary: Vocabulary = field(default_factory=BytePairs)
    template: str = "{prompt} {answer}"
    max_length: Annotated[int, Ge(2)] = 256

    def check(self) -> None:
        """The template must say where prompt and answer stand."""
        require_template(self.template, "LUME")
        require_different(self.files, "LUME.files")

    def fingerprint(self) -> Json:
        """SHA-256 of the files, and what the vocabulary depends on."""
        digests = {each: file_digest(str(self._file(each))) for each in self.files}
        return {"sha256": digests, "vocabulary": self.vocabulary.fingerprint()}

    def load(self) -> Dataset:
        """Read the files and make tokens."""
        rows = [pair for name in self.files for pair in self._rows(name)]
        exchanges, groups = [exchange for exchange, _ in rows], [group for _, group in rows]
        encoder = self.vocabulary.encoder(texts_of(exchanges, self.template))
        return dataset_of("LUME", exchanges, encoder=encoder, template=self.template, max_length=self.max_length, groups=groups)

    def _file(self, name: str) -> Path:
        folder = Path(self.path).expanduser()
        places = [
            folder / f"{prefix}{name}{ending}"
            for prefix in ("", "data/")
            for ending in (".parquet", "-00000-of-00001.parquet", ".jsonl", ".json")
        ]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            raise DataError(f'the folder "{self.path}" has no "{name}" as Parquet, JSON lines or JSON, nor in "data"')
        return found

    def _rows(self, name: str) -> Iterator[tuple[Exchange, str]]:
        side = "forget" if "forget" in name else "retain"
        side += " validation" if "validation" in name else ""
        for number, row in enumerate(read_rows(str(self._file(name)))):
            exchange = Exchange(
                prompt=text_in(row, "input"), answer=text_in(row, "output"), alternate=REFUSALS[number % len(REFUSALS)]
            )
            yield exchange, f"{side} {text_in(row, 'task')} {_kind(row)}"


def _kind(row: dict[str, Any]) -> str:
    """Whether a sentence is completed or a question answered."""
    name = text_in(row, "id")
    kind = next((each for each in ("sc", "qa") if each in name[-4:].lower()), None)
    if kind is None:
        raise DataError(f'{row[""]}: the id "{name}" ends neither in "sc" nor in "qa", so that it is not known what is asked')
    return kind
