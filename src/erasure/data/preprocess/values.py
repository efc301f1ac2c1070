"""Steps that change values one by one: texts to codes, to numbers, to lists."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from erasure.data.fields import Names
from erasure.data.preprocess.contract import PartStep
from erasure.data.preprocess.samples import Field, Samples, objects
from erasure.errors import DataError, nearest
from erasure.training.batches import TensorColumn
from erasure.types import Json, PositiveInt

__all__ = ["Add", "Encode", "ListToTensor", "ParseLists", "RemoveCharacter", "coded"]

_PADDING = -1


@dataclass(frozen=True, kw_only=True)
class Encode(PartStep):
    """Values become codes: 0, 1, … in the sorted order of the values, the same in every process.

    Of the inputs, columns of text are encoded, each by itself, or those that ``columns`` lists. Codes say which values occur anywhere in
    the data, test and forgotten samples included, and nothing else about them; with ``values`` they do not even say that.

    Args:
        values: The values in the order of their codes; any other value is refused. Empty for those that occur, sorted.
    """

    values: Names = ()

    def apply(self, samples: Samples) -> Samples:
        """Encode the parts."""
        for part, columns in self.parts():
            everything = part != "x" or bool(columns)
            samples = samples.mapped(part, self._coded if everything else self._coded_text, columns)
        return samples

    def _coded_text(self, name: str, column: Field) -> Field:
        return self._coded(name, column) if column.values.dtype == object else column

    def _coded(self, name: str, column: Field) -> Field:
        if column.names and not self.values and column.values.dtype != object:
            return column  # codes already, in the data set's own order
        texts = column.texts()
        column = column if texts is None else Field(texts)
        made = coded(name, column, self.values)
        if self.values and (made.values == _PADDING).any():
            self._check_known(name, column)
        return made

    def _check_known(self, name: str, column: Field) -> None:
        width = column.values.size // len(column)
        for position, value in enumerate(column.values.ravel().tolist()):
            if _as_text(value) not in self.values and not (width > 1 and value == _PADDING):
                hint = nearest(str(value), self.values)
                where = f"sample {position // width}"
                raise DataError(
                    f'column "{name}" has {value!r} in {where}, which is not among values{f"; {hint}" if hint else ""}'
                )


def coded(name: str, column: Field, values: Sequence[str] = ()) -> Field:
    """Codes of the values, in the order of ``values`` or sorted: as numbers if all are, else as text.

    What is not among ``values``, and what fills lists up, has code -1.

    Raises:
        DataError: If a value is neither a number nor a text.
    """
    odd = [each for each in column.values.flat if not isinstance(each, str | int | float | np.number | np.bool_)]
    if odd:
        raise DataError(f'column "{name}" holds {_called(odd[0])}, expected texts or numbers; ParseLists pads lists')
    flat = column.values.ravel().tolist()
    is_padded = column.values.dtype == object and column.values.ndim > 1
    found = {value for value in flat if value != _PADDING} if is_padded else set(flat)
    known = {value: code for code, value in enumerate(values or _sorted(found))}
    wanted = [_as_text(value) for value in flat] if values else flat
    codes = np.array([known.get(value, _PADDING) for value in wanted], dtype=np.int64)
    return Field(codes.reshape(column.values.shape), tuple(_as_text(value) for value in known))


@dataclass(frozen=True, kw_only=True)
class RemoveCharacter(PartStep):
    """Removes a character, or any text, wherever it stands in texts, and the spaces around them.

    What is a number afterwards is read as one, such as ``$3.50`` without its ``$``.

    Args:
        character: What is removed.
    """

    character: str

    def apply(self, samples: Samples) -> Samples:
        """Clean the parts."""
        for part, columns in self.parts():
            fields = samples.part(part)
            if not any(each.texts() is not None for each in fields.values()):
                raise DataError(f"{part} has no text to remove {self.character!r} from")
            samples = samples.mapped(part, self._cleaned if columns else self._cleaned_text, columns)
        return samples

    def _cleaned_text(self, name: str, column: Field) -> Field:
        return column if column.texts() is None else self._cleaned(name, column)

    def _cleaned(self, name: str, column: Field) -> Field:
        texts = column.texts()
        if texts is None:
            raise DataError(f'column "{name}" holds no texts')
        cleaned = Field(objects([each.strip().replace(self.character, "") for each in texts]))
        numbers = cleaned.numbers()
        return cleaned if numbers is None else Field(numbers)


@dataclass(frozen=True, kw_only=True)
class Add(PartStep):
    """Adds a number to all values.

    Whole numbers stay whole if a whole number is added. Of the inputs, all columns must hold numbers, or those that ``columns`` lists.

    Args:
        add: What is added.
    """

    add: float

    def apply(self, samples: Samples) -> Samples:
        """Add to the parts."""
        for part, columns in self.parts():
            if part == "x" and isinstance(samples.x, TensorColumn):
                samples = replace(samples, x=self._shifted(samples.x))
            else:
                samples = samples.mapped(part, self._sum, columns)
        return samples

    def _sum(self, name: str, column: Field) -> Field:
        numbers = column.numbers()
        if numbers is None:
            raise DataError(f'column "{name}" holds {_example(column)}, expected numbers to add {self.add:g} to')
        whole = self.add.is_integer() and np.issubdtype(numbers.dtype, np.integer)
        return Field(numbers.astype(np.int64) + int(self.add) if whole else numbers.astype(np.float64) + self.add)

    def _shifted(self, x: TensorColumn) -> TensorColumn:
        if x.scale is None and x.mean is None:
            if not x.values.is_floating_point():
                raise DataError(f"the inputs are codes ({x.values.dtype}), to which nothing can be added")
            return replace(x, values=x.values + self.add)
        # Pictures stay uint8: the sum is taken when a batch is cut.
        std = torch.ones(1) if x.std is None else x.std
        mean = torch.zeros(1) if x.mean is None else x.mean
        return replace(x, mean=mean - self.add * std, std=std)


@dataclass(frozen=True, kw_only=True)
class ParseLists(PartStep):
    """Texts such as ``"[3, 1]"`` become rows of one length, filled up with -1 or cut.

    A single number is a list of one. Nothing but lists of numbers and texts is understood; code is never run.

    Args:
        max_length: Length of each row.
    """

    max_length: PositiveInt

    def apply(self, samples: Samples) -> Samples:
        """Parse the parts."""
        for part, columns in self.parts():
            samples = samples.mapped(part, self._parsed, columns)
        return samples

    def _parsed(self, name: str, column: Field) -> Field:
        if column.values.dtype != object:
            rows: list[Any] = column.values.reshape(len(column), -1).tolist()
        else:
            rows = [_as_list(name, sample, value) for sample, value in enumerate(column.values)]
        rows = [(row + [_PADDING] * self.max_length)[: self.max_length] for row in rows]
        kinds = {type(value) for row in rows for value in row} - {bool}
        if not kinds <= {int, float, str}:
            odd = ", ".join(sorted(each.__name__ for each in kinds - {int, float, str}))
            raise DataError(f'column "{name}" has lists that hold {odd}, expected numbers or texts')
        if str not in kinds:
            return Field(np.array(rows, dtype=np.float64 if float in kinds else np.int64))
        block = np.empty((len(rows), self.max_length), dtype=object)
        for sample, row in enumerate(rows):
            block[sample] = row
        return Field(block)


@dataclass(frozen=True, kw_only=True)
class ListToTensor(PartStep):
    """Lists of numbers of one length, also nested ones, become arrays; columns of numbers stay as they are."""

    def apply(self, samples: Samples) -> Samples:
        """Convert the parts."""
        for part, columns in self.parts():
            if not (part == "x" and isinstance(samples.x, TensorColumn)):
                samples = samples.mapped(part, _stacked, columns)
        return samples


def _stacked(name: str, column: Field) -> Field:
    numbers = column.numbers()
    if numbers is not None:
        return replace(column, values=numbers)
    if column.is_text:
        raise DataError(f'column "{name}" holds {_example(column)}, expected lists of numbers; ParseLists reads lists from texts')
    shapes = [np.shape(value) if _is_even(value) else None for value in column.values]
    for sample, shape in enumerate(shapes):
        if shape is None or shape != shapes[0]:
            found = "a ragged list" if shape is None else f"a list of shape {shape}"
            raise DataError(f'column "{name}" has {found} in sample {sample}, expected shape {shapes[0]}; ParseLists pads')
    try:
        array = np.array(column.values.tolist())
        if array.dtype.kind not in "biuf":
            raise ValueError(array.dtype)
    except (ValueError, TypeError) as error:
        raise DataError(f'column "{name}" has lists that hold something else than numbers') from error
    return Field(array.astype(np.int64) if array.dtype.kind == "b" else array)


def _is_even(value: Any) -> bool:
    if not isinstance(value, list | tuple):
        return True
    inner = [np.shape(each) if _is_even(each) else None for each in value]
    return None not in inner and len(set(inner)) <= 1


def _as_list(name: str, sample: int, value: Any) -> list[Any]:
    parsed: Json | tuple[Any, ...] = value
    if isinstance(value, str):
        try:
            parsed = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            shown = value if len(value) <= 40 else f"{value[:37]}..."
            raise DataError(f'column "{name}" has {shown!r} in sample {sample}, expected a list such as "[3, 1]"') from None
    if isinstance(parsed, list | tuple | np.ndarray):
        return list(parsed)
    if isinstance(parsed, int | float):
        return [parsed]
    raise DataError(f'column "{name}" has {_called(parsed)} in sample {sample}, expected a list')


def _sorted(values: set[Any]) -> list[Any]:
    """Numbers by size, texts that are all numbers too, others by their letters."""
    try:
        return sorted(values, key=lambda value: (float(value), str(value)))
    except ValueError:
        return sorted(values, key=str)


def _as_text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _called(value: Any) -> str:
    return {"list": "a list", "dict": "an object", "NoneType": "nothing"}.get(type(value).__name__, type(value).__name__)


def _example(column: Field) -> str:
    first = column.values.flat[0]
    return repr(first if len(str(first)) <= 40 else f"{str(first)[:37]}...")
