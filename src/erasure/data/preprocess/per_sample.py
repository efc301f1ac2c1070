"""Functions that look at one sample at a time: the slow general case."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from erasure.component import Call
from erasure.data.preprocess.contract import Step, code_digest
from erasure.data.preprocess.samples import Field, Fields, Part, Samples, objects
from erasure.errors import DataError, InvalidParameters
from erasure.training.batches import TensorColumn
from erasure.training.randomness import isolated
from erasure.types import Json

__all__ = ["PerSample", "SampleFunction", "SampleStep"]


@dataclass(frozen=True, kw_only=True)
class SampleFunction(Call):
    """A function ``(x, y, z) -> (x, y, z)`` by its dotted path, from a module that the command line trusts."""

    kind: ClassVar[str] = "function"


@dataclass(frozen=True, kw_only=True)
class SampleStep(Step):
    """Base of steps that are written for one sample at a time.

    They are called once for every sample, in order: easy to write, and slow. Where a step can look at whole columns, write a ``Step``.
    """

    def sample(self, x: Any, y: Any, z: Any) -> tuple[Any, Any, Any]:
        """What becomes of one sample.

        Args:
            x: Its only input, or its inputs by the names of their columns; a tensor for pictures and other arrays; None for graphs,
                whose inputs stay as they are.
            y: Its only label, or its labels by name.
            z: Its group in the same way; None if there is none.

        Returns:
            The three, new or as they are: numbers, texts, lists, arrays or columns by name; z None for no group. Every sample must
            have the same columns and shapes.
        """
        raise NotImplementedError

    def apply(self, samples: Samples) -> Samples:
        """Call the function on every sample."""
        n_samples = len(samples)
        given = {part: _rows(samples, part) for part in ("x", "y", "z")}
        made: dict[Part, list[Any]] = {"x": [], "y": [], "z": []}
        x_stays = True
        with torch.no_grad(), isolated(0):
            for number in range(n_samples):
                x = given["x"](number)
                before = x.clone() if isinstance(x, Tensor) else None
                try:
                    result = self.sample(x, given["y"](number), given["z"](number))
                except Exception as error:  # the function is the user's, and may fail in any way
                    raise DataError(f"the function failed on sample {number}: {type(error).__name__}: {error}") from error
                if not isinstance(result, tuple) or len(result) != 3:
                    raise DataError(f"the function gave {type(result).__name__} for sample {number}, expected a tuple (x, y, z)")
                x_stays = x_stays and before is not None and isinstance(result[0], Tensor) and torch.equal(result[0], before)
                for part, value in zip(made, result, strict=True):
                    made[part].append(value)
        changed = replace(samples, y=_kept(samples.y, "y", made), z=_kept(samples.z, "z", made))
        return changed if x_stays else _with_x(changed, made["x"])


@dataclass(frozen=True, kw_only=True)
class PerSample(SampleStep):
    """Calls a function of your own on every sample: the slow general case of a step.

    ``function`` is ``(x, y, z) -> (x, y, z)``, named by its dotted path in a module that ``--trust`` allows, with keyword arguments as its
    parameters. From Python the function itself will do. Results follow changes of its file.

    Args:
        function: The function.
    """

    function: SampleFunction

    def __post_init__(self) -> None:
        function: Any = self.function
        if callable(function) and not isinstance(function, SampleFunction):
            module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
            if not module or not name.isidentifier() or name == "<lambda>":
                raise InvalidParameters(
                    f"PerSample.function: {name or type(function).__name__} has no name of its own in a module; define it there"
                )
            object.__setattr__(self, "function", SampleFunction(path=f"{module}.{name}"))
        super().__post_init__()

    def fingerprint(self) -> Json:
        """SHA-256 of the file that the function is in."""
        return code_digest(str(getattr(self.function.target(), "__module__", "")))

    def sample(self, x: Any, y: Any, z: Any) -> tuple[Any, Any, Any]:
        """Call the function."""
        made: tuple[Any, Any, Any] = self.function(x, y, z)
        return made


def _rows(samples: Samples, part: Part) -> Callable[[int], Any]:
    """A function from a sample's number to what the user's function is given of it."""
    if part == "x" and not isinstance(samples.x, Mapping):
        column = samples.x
        return (lambda i: column.gather(torch.tensor([i]))[0]) if isinstance(column, TensorColumn) else (lambda _: None)
    fields = samples.z if part == "z" else samples.part(part)
    if not fields:
        return lambda _: None
    if len(fields) == 1:
        (only,) = fields.values()
        return lambda i: _plain(only, i)
    return lambda i: {name: _plain(each, i) for name, each in fields.items()}


def _plain(column: Field, number: int) -> Any:
    """A number, a text, a list or an array."""
    value = column.values[number]
    if isinstance(value, np.generic):
        return value.item()
    return copy.deepcopy(value)  # the function may change what it is given


def _kept(fields: Fields, part: Part, made: Mapping[Part, Sequence[Any]]) -> Fields:
    """The columns that the values make; where nothing was changed, the columns with their names as they were."""
    found = _fields(part, made[part], next(iter(fields), part))
    return {name: fields[name] if name in fields and _is_same(fields[name], each) else each for name, each in found.items()}


def _is_same(one: Field, other: Field) -> bool:
    return one.values.shape == other.values.shape and bool(np.array_equal(one.values, other.values))


def _with_x(samples: Samples, made: Sequence[Any]) -> Samples:
    if isinstance(samples.x, Mapping):
        return replace(samples, x=_kept(samples.x, "x", {"x": made}))
    if all(value is None for value in made):
        return samples
    if not isinstance(samples.x, TensorColumn):
        raise DataError("the inputs of graphs cannot be changed; give x back as None")
    if not isinstance(made[0], Tensor | np.ndarray):
        return replace(samples, x=_fields("x", made, "x"), modality="table")
    values = _stacked("x", made)
    if not values.is_floating_point() and not samples.x.values.is_floating_point() and samples.x.scale is None:
        return replace(samples, x=TensorColumn(values))
    return replace(samples, x=TensorColumn(values.to(torch.float32)))


def _fields(part: Part, made: Sequence[Any], name: str) -> Fields:
    """One value a sample as columns."""
    first = made[0]
    if first is None:
        odd = next((number for number, value in enumerate(made) if value is not None), None)
        if part != "z" or odd is not None:
            raise DataError(f"the function gave nothing for {part} of sample 0")
        return {}
    if not isinstance(first, Mapping):
        return {name: _field(part, made)}
    for number, value in enumerate(made):
        if not isinstance(value, Mapping) or list(value) != list(first):
            found = ", ".join(value) if isinstance(value, Mapping) else type(value).__name__
            raise DataError(
                f"the function gave other columns for {part} of sample {number} ({found}) than before ({', '.join(first)})"
            )
    return {column: _field(part, [value[column] for value in made]) for column in first}


def _field(part: Part, made: Sequence[Any]) -> Field:
    first = made[0]
    if isinstance(first, str | list | tuple):
        kind = str if isinstance(first, str) else (list, tuple)
        odd = next((number for number, value in enumerate(made) if not isinstance(value, kind)), None)
        if odd is None:
            return Field(objects([list(value) if isinstance(value, tuple) else value for value in made]))
        raise DataError(f"the function gave {made[odd]!r} for {part} of sample {odd}, and {first!r} before")
    return Field(_stacked(part, made).numpy())


def _stacked(part: Part, made: Sequence[Any]) -> Tensor:
    arrays: list[npt.NDArray[Any]] = []
    for number, value in enumerate(made):
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError):
            array = np.asarray(None)
        if array.dtype.kind not in "biuf":
            raise DataError(
                f"the function gave {value!r} for {part} of sample {number}, expected a number, a text, a list or an array"
            )
        if array.shape != np.shape(arrays[0] if arrays else array):
            raise DataError(
                f"the function gave an array of shape {array.shape} for {part} of sample {number}, and of {arrays[0].shape} before"
            )
        arrays.append(array)
    stacked = np.stack(arrays)
    return torch.from_numpy(stacked.astype(np.int64) if stacked.dtype.kind == "b" else stacked)
