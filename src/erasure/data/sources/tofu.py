"""TOFU: questions about authors that were made up, from the files of the benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, MinLen

from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.fields import require_different
from erasure.data.language.exchanges import Exchange, dataset_of, require_template, texts_of
from erasure.data.language.refusals import REFUSALS
from erasure.data.language.vocabularies import BytePairs, Vocabulary
from erasure.data.reading.files import file_digest
from erasure.data.sources.prompts_and_answers import read_rows, text_in, texts_in
from erasure.errors import DataError, Diagnostic, InvalidParameters
from erasure.types import Json, NonNegativeInt, Source

__all__ = ["TOFU"]

_PER_AUTHOR = 20
_FILES = ("full.json", "forget10_perturbed.json", "retain_perturbed.json")
_OTHERS = ("real_authors", "world_facts")


@dataclass(frozen=True, kw_only=True)
class TOFU(DataSource):
    """TOFU: 200 authors that were made up, with 20 questions each.

    The group is the author's number, so that a forget set is a list or range of authors: the last 2, 10 or 20 of all are the benchmark's
    forget01, forget05 and forget10. Authors 0 to 19 and 180 to 199 have paraphrased and wrong answers; other measures than the truth ratio
    do not need them. Authors that are kept out of the training set stand for the benchmark's holdout sets.

    Args:
        path: Folder of the benchmark's files, ``full.json`` and others.
        authors: Numbers of the authors to read, from 0 to 199; all by default.
        others: Also ``real_authors`` or ``world_facts``, each a group of its own; their wrong answers are the other options.
        vocabulary: Makes tokens.
        template: How a sample is written, with ``{prompt}`` and ``{answer}``, or ``chat`` for the tokenizer's own.
        max_length: Tokens of a sample; longer answers are cut.
    """

    is_digested: ClassVar[bool] = True

    source: ClassVar[Source | None] = Source(
        paper="Maini, Feng, Schwarzschild, Lipton, Kolter, COLM 2024, arXiv:2401.06121",
        code="locuslab/tofu at bdc209e",
        tested="made-up authors in the layout of the files (tests/unit/language/test_tofu.py)",
        deviations=(
            "Refusals are a list of our own, one for each question by its number, not redrawn in every epoch.",
            "Prompt and answer are turned into tokens apart and joined; the original code cuts tokens of the joined text.",
        ),
    )

    path: Annotated[str, MinLen(1)]
    authors: tuple[NonNegativeInt, ...] = ()
    others: tuple[str, ...] = ()
    vocabulary: Vocabulary = field(default_factory=BytePairs)
    template: str = "Question: {prompt}\nAnswer: {answer}"
    max_length: Annotated[int, Ge(2)] = 256

    def check(self) -> None:
        """The template must say where prompt and answer stand."""
        require_template(self.template, "TOFU")
        require_different(self.authors, "TOFU.authors")
        require_different(self.others, "TOFU.others")
        unknown = [each for each in self.others if each not in _OTHERS]
        if unknown:
            raise InvalidParameters([Diagnostic(f'expected {" or ".join(_OTHERS)}, found "{unknown[0]}"', path="TOFU.others")])

    def fingerprint(self) -> Json:
        """SHA-256 of the files."""
        digests = {each: file_digest(str(self._file(each))) for each in self._files()}
        return {"sha256": digests, "vocabulary": self.vocabulary.fingerprint()}

    def load(self) -> Dataset:
        """Read the authors and make tokens."""
        rows = list(self._rows())
        exchanges, groups = [exchange for exchange, _ in rows], [group for _, group in rows]
        encoder = self.vocabulary.encoder(texts_of(exchanges, self.template))
        return dataset_of("TOFU", exchanges, encoder=encoder, template=self.template, max_length=self.max_length, groups=groups)

    def _files(self) -> tuple[str, ...]:
        return (*_FILES, *(f"{each}.json" for each in self.others))

    def _file(self, name: str) -> Path:
        return Path(self.path).expanduser() / name

    def _rows(self) -> Iterator[tuple[Exchange, str]]:
        full, forget, retain = (list(read_rows(str(self._file(name)))) for name in _FILES)
        # By answer too: one question is asked twice.
        known = {(row["question"], row["answer"]): row for row in (*forget, *retain)}
        n_authors = len(full) // _PER_AUTHOR
        for author in self.authors or range(n_authors):
            if author >= n_authors:
                raise DataError(f'"{self._file(_FILES[0])}" has {n_authors} authors, counted from 0; there is no author {author}')
            for number in range(_PER_AUTHOR * author, _PER_AUTHOR * (author + 1)):
                row = full[number]
                more = known.get((row.get("question"), row.get("answer")), {})
                yield _exchange(row, more, number), str(author)
        for name in self.others:
            for number, row in enumerate(read_rows(str(self._file(f"{name}.json")))):
                options = [text_in(row, column) for column in row if column.startswith("option")]
                wrong = tuple(each for each in options if each != row.get("answer"))
                yield _exchange(row, {}, number, wrong=wrong), name


def _exchange(row: dict[str, Any], more: dict[str, Any], number: int, wrong: tuple[str, ...] = ()) -> Exchange:
    return Exchange(
        prompt=text_in(row, "question"),
        answer=text_in(row, "answer"),
        alternate=REFUSALS[number % len(REFUSALS)],
        paraphrase=text_in(more, "paraphrased_answer") if more else None,
        rephrased=text_in(more, "paraphrased_question") if more else None,
        wrong=texts_in(more, "perturbed_answer") if more else wrong,
    )
