"""Prompts and answers from JSON lines, another table or a data set of Hugging Face that a language model is to learn."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, MinLen

from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.fields import Names, NonEmptyNames, require_different
from erasure.data.language.exchanges import Exchange, dataset_of, require_template, texts_of
from erasure.data.language.vocabularies import BytePairs, Vocabulary
from erasure.data.reading.files import existing_file, file_digest
from erasure.data.reading.folders import folder_digest
from erasure.data.reading.hugging_face_files import read_folder
from erasure.errors import DataError, Diagnostic, InvalidParameters, nearest
from erasure.types import Json, PositiveInt

__all__ = ["PromptsAndAnswers", "read_rows", "text_in", "texts_in"]


@dataclass(frozen=True, kw_only=True)
class PromptsAndAnswers(DataSource):
    """Prompts and answers from files with a column for each: JSON lines, a JSON array, CSV or Parquet, or data sets of Hugging Face.

    Each sample is a prompt and its answer, of which only the tokens of the answer are learned. Forget sets are cut by the group (an author,
    a topic, what a text contains), by number or by whatever else splitters know.

    Args:
        path: One file or a list of them, joined in order; ``~`` is expanded. A folder is one that the library ``datasets`` reads, such as
            ``save_to_disk`` writes; its splits are put one below the other.
        prompt: Column of the prompts; none for texts that are learned from their first token on.
        answer: Column of the answers.
        alternate: Column of answers to be preferred to them, such as refusals, for methods that prefer.
        paraphrase: Column of the answers in other words, for the truth ratio.
        rephrased: Column of the prompts in other words.
        wrong: Columns of wrong answers; one may hold a list of them.
        group: Column by which samples belong together.
        group_size: Where there is no such column: this many consecutive rows are a group, numbered from 0.
        contains: Where there is neither: a sample is of the group ``with …`` if its prompt or its answer contains any of these strings, as
            they are written, else of the group ``without …``.
        vocabulary: Makes tokens.
        template: How a sample is written, with ``{prompt}`` and ``{answer}``, or ``chat`` for the tokenizer's own.
        max_length: Tokens of a sample; longer answers are cut.
        name: How results call the data; by default the first file's name.
    """

    is_digested: ClassVar[bool] = True

    path: NonEmptyNames
    prompt: Annotated[str, MinLen(1)] | None = "prompt"
    answer: Annotated[str, MinLen(1)] = "answer"
    alternate: Annotated[str, MinLen(1)] | None = None
    paraphrase: Annotated[str, MinLen(1)] | None = None
    rephrased: Annotated[str, MinLen(1)] | None = None
    wrong: tuple[str, ...] = ()
    group: Annotated[str, MinLen(1)] | None = None
    group_size: PositiveInt | None = None
    contains: Names = field(default=(), metadata={"address": "changed"})
    vocabulary: Vocabulary = field(default_factory=BytePairs)
    template: str = "Question: {prompt}\nAnswer: {answer}"
    max_length: Annotated[int, Ge(2)] = 256
    name: Annotated[str, MinLen(1)] | None = None

    def check(self) -> None:
        """The template must say where prompt and answer stand."""
        require_template(self.template, "PromptsAndAnswers")
        require_different(self.path, "PromptsAndAnswers.path")
        given = [name for name in ("group", "group_size", "contains") if getattr(self, name)]
        if len(given) > 1:
            raise InvalidParameters([Diagnostic(f"give {' or '.join(given)}, not both", path=f"PromptsAndAnswers.{given[1]}")])

    def fingerprint(self) -> Json:
        """SHA-256 of the files, and what the vocabulary depends on."""
        return {"sha256": [_digest(each) for each in self.path], "vocabulary": self.vocabulary.fingerprint()}

    def load(self) -> Dataset:
        """Read the files and make tokens."""
        rows = [row for path in self.path for row in read_rows(path)]
        exchanges = [self._exchange(row) for row in rows]
        encoder = self.vocabulary.encoder(texts_of(exchanges, self.template))
        return dataset_of(
            self.name or Path(self.path[0]).stem,
            exchanges,
            encoder=encoder,
            template=self.template,
            max_length=self.max_length,
            groups=self._groups(rows, exchanges),
        )

    def _exchange(self, row: Mapping[str, Any]) -> Exchange:
        return Exchange(
            prompt=text_in(row, self.prompt) if self.prompt else "",
            answer=text_in(row, self.answer),
            alternate=text_in(row, self.alternate) if self.alternate else None,
            paraphrase=text_in(row, self.paraphrase) if self.paraphrase else None,
            rephrased=text_in(row, self.rephrased) if self.rephrased else None,
            wrong=tuple(text for column in self.wrong for text in texts_in(row, column)),
        )

    def _groups(self, rows: Sequence[Mapping[str, Any]], exchanges: Sequence[Exchange]) -> list[str] | None:
        if self.contains:
            shown = ", ".join(self.contains)
            found = [any(each in text for each in self.contains for text in (one.prompt, one.answer)) for one in exchanges]
            return [f"with {shown}" if is_found else f"without {shown}" for is_found in found]
        if self.group is not None:
            return [_group_in(row, self.group) for row in rows]
        size = self.group_size
        return None if size is None else [str(number // size) for number in range(len(rows))]


def _digest(path: str) -> str:
    folder = Path(path).expanduser()
    return (folder_digest(folder) or "") if folder.is_dir() else file_digest(path)


def read_rows(path: str) -> Iterator[dict[str, Any]]:
    """The rows of a file, or of a data set in a folder, by the names of its columns.

    Raises:
        DataError: If it cannot be read; names the line.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        for split, rows in read_folder(folder, None).items():
            yield from ({**row, "": f'"{path}", {split}, row {number}'} for number, row in enumerate(rows, start=1))
        return
    file = existing_file(path)
    if file.suffix.lower() in {".csv", ".tsv", ".parquet"}:
        yield from _table(file)
        return
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f'"{path}" cannot be read as text: {error}') from error
    numbered: Iterable[tuple[int, Any]]
    if text.lstrip().startswith("["):
        numbered = enumerate(_parsed(text, path, 1), start=1)
    else:
        # Not by splitlines: texts in JSON may have other marks in them that end lines elsewhere, such as U+2028.
        numbered = ((number, _parsed(line, path, number)) for number, line in enumerate(text.split("\n"), 1) if line.strip())
    for number, row in numbered:
        if not isinstance(row, dict):
            raise DataError(f'"{path}", row {number}: expected an object with named columns, found {type(row).__name__}')
        yield {**row, "": f'"{path}", row {number}'}


def _parsed(text: str, path: str, line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        wanted = "; expected an object on each line, or one array of objects" if not text.startswith("[") else ""
        raise DataError(f'"{path}", line {line + error.lineno - 1} is no JSON: {error.msg}{wanted}') from error
    except RecursionError as error:
        raise DataError(f'"{path}", line {line}: brackets are nested too deeply to be read') from error


def _table(file: Path) -> Iterator[dict[str, Any]]:
    import pandas

    try:
        if file.suffix.lower() == ".parquet":
            frame = pandas.read_parquet(file)
        else:
            frame = pandas.read_csv(file, sep="\t" if file.suffix.lower() == ".tsv" else ",", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(f'"{file}" cannot be read: {error}') from error
    for number, row in enumerate(frame.to_dict("records"), start=1):
        yield {**{str(name): value for name, value in row.items()}, "": f'"{file}", row {number}'}


def text_in(row: Mapping[str, Any], column: str) -> str:
    """The text in a column of a row.

    Raises:
        DataError: If there is no such column, or it holds no text.
    """
    if column not in row:
        there = [name for name in row if name]
        hint = nearest(column, there)
        raise DataError(f'{row[""]} has no column "{column}"; it has {", ".join(there)}{f"; {hint}" if hint else ""}')
    value = row[column]
    if not isinstance(value, str):
        raise DataError(f'{row[""]}: column "{column}" holds {_held(value)}, expected a text')
    return _whole(row, column, value)


def texts_in(row: Mapping[str, Any], column: str) -> tuple[str, ...]:
    """The texts in a column that may hold a list of them."""
    value = row.get(column)
    if value is None or isinstance(value, str | Mapping) or not hasattr(value, "__iter__"):
        return (text_in(row, column),)
    found = tuple(value)
    other = next((each for each in found if not isinstance(each, str)), "")
    if not isinstance(other, str):
        raise DataError(f'{row[""]}: column "{column}" holds a list with {_held(other)} in it, expected texts')
    return tuple(_whole(row, column, each) for each in found)


def _group_in(row: Mapping[str, Any], column: str) -> str:
    """The group of a row: a text, or a single value such as a number, as it reads."""
    value = row.get(column)
    is_single = _held(value) != "nothing" and not hasattr(value, "__len__")
    return str(value) if is_single else text_in(row, column)


def _held(value: Any) -> str:
    """What a column holds instead of a text; tables write what is missing as not a number."""
    return "nothing" if value is None or (isinstance(value, float) and math.isnan(value)) else type(value).__name__


def _whole(row: Mapping[str, Any], column: str, text: str) -> str:
    """A text, unless it has half a character in it, which no tokenizer can write."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = f'{row[""]}: column "{column}" has half of a character at place {error.start} (a surrogate without its partner)'
        raise DataError(message) from error
    return text
