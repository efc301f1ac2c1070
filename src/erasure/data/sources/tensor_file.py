"""Tensors from a file: safetensors, NumPy's npz, and what ``torch.save`` wrote, without running anything the file brings."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import MinLen
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from erasure.data.arrays import Modality, dataset_from
from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.reading.files import existing_file, file_digest
from erasure.data.reading.picture_axes import Axes
from erasure.errors import DataError, nearest
from erasure.types import Json, PositiveFloat, PositiveInt, Task

__all__ = ["SAFE_CLASSES", "TensorFile", "named_tensors"]

SAFE_CLASSES: tuple[type, ...] = (TensorDataset, Subset, ConcatDataset, range)
"""What a torch-saved file may hold beyond plain tensors and containers: these only keep tensors and indices."""

_CONVERT = 'where you trust the file, load it and save plain tensors: torch.save({"x": x, "y": y, "n_classes": k}, path)'


@dataclass(frozen=True, kw_only=True)
class TensorFile(DataSource):
    """Tensors in a file: ``.safetensors``, ``.npz``, or anything else written by ``torch.save``.

    A torch-saved file may hold a dict of tensors, a tuple ``(x, y)`` or ``(x, y, z)``, or a ``TensorDataset``, ``Subset`` or
    ``ConcatDataset`` of such, with an attribute (or key) ``n_classes``. It is read with ``weights_only=True``: a pickle that needs
    any other class is refused, because unpickling it could run any program.

    Args:
        path: The file, relative to the working directory; ``~`` is expanded.
        x: Name of the inputs in a file of named tensors.
        y: Name of the labels.
        z: Name of the groups; may be missing in the file if it is ``z``.
        n_classes: Number of classes, 1 or more; by default what the file says or one more than the largest label.
        task: How labels are read; by default ``multilabel`` if a label is a vector, else ``classification``.
        modality: What the inputs are; by default read off their type and shape.
        scale: Factor that turns whole numbers into model inputs, above 0; by default 1/255 for uint8 images.
        axes: Of pictures: ``channels_first``, ``channels_last`` or ``as_they_are``; by default they are recognised by their number of
            channels, and grey pictures without an axis for it get one.
    """

    is_digested: ClassVar[bool] = True

    path: Annotated[str, MinLen(1)]
    x: Annotated[str, MinLen(1)] = "x"
    y: Annotated[str, MinLen(1)] = "y"
    z: Annotated[str, MinLen(1)] = "z"
    n_classes: PositiveInt | None = None
    task: Task | None = None
    modality: Modality | None = None
    scale: PositiveFloat | None = None
    axes: Axes | None = field(default=None, metadata={"address": "changed"})

    def fingerprint(self) -> Json:
        """SHA-256 of the file."""
        return {"sha256": file_digest(self.path)}

    def load(self) -> Dataset:
        """Read the tensors and check them."""
        file = existing_file(self.path)
        content = _read(file, {self.x, self.y, self.z, "n_classes"})
        n_classes = self.n_classes
        if isinstance(content, Mapping):
            n_classes = n_classes or _stored_count(content)
            content = self._columns(content)
        try:
            return dataset_from(
                content,
                n_classes=n_classes,
                task=self.task,
                name=file.stem,
                modality=self.modality,
                scale=self.scale,
                axes=self.axes,
            )
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error

    def _columns(self, named: Mapping[str, Any]) -> tuple[Any, ...]:
        wanted = [self.x, self.y] + ([self.z] if self.z in named or self.z != "z" else [])
        for name in wanted:
            if name not in named:
                there = ", ".join(str(each) for each in named) or "nothing"
                hint = nearest(name, map(str, named)) or "say which are the inputs and the labels by the parameters x and y"
                raise DataError(f'{self.path} has no tensor "{name}"; it has {there}; {hint}')
        return tuple(_value(named, name, self.path) for name in wanted)


def named_tensors(file: Path) -> dict[str, Any] | None:
    """Every array or tensor of a file by its name; None if it holds no names.

    Raises:
        DataError: If the file cannot be read.
    """
    content = _read(file, None)
    return (
        {str(name): value for name, value in content.items() if hasattr(value, "shape")} if isinstance(content, Mapping) else None
    )


def _stored_count(named: Mapping[str, Any]) -> int | None:
    if "n_classes" not in named:
        return None
    count = named["n_classes"]
    return int(count.item() if hasattr(count, "item") else count)


def _value(named: Mapping[str, Any], name: str, path: str) -> Any:
    value = named[name]
    if not hasattr(value, "shape"):
        raise DataError(f'{path}: "{name}" is a {type(value).__name__}, expected a tensor')
    return value


def _read(file: Path, wanted: Container[str] | None) -> Any:
    """What the file holds; of an archive of named arrays, only the wanted ones are unpacked (None: all)."""
    suffix = file.suffix.lower()
    try:
        if suffix == ".npz":
            return _read_npz(file, wanted)
        return _read_safetensors(file) if suffix == ".safetensors" else _read_torch(file)
    except DataError:
        raise
    except PermissionError as error:
        raise DataError(f'"{file}" cannot be read: {error.strerror}') from error
    except Exception as error:  # damaged bytes make the readers fail in every possible way
        # What they say of it is about their own insides, or recommends to unpickle it.
        raise DataError(
            f'"{file}" is damaged, or neither .safetensors, .npz nor a file that torch.save wrote; tables are read by TableFile'
        ) from error


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise DataError(f'"{file}" is not a complete safetensors file: {error}') from error


def _read_npz(file: Path, wanted: Container[str] | None) -> dict[str, Any]:
    import numpy as np

    def value(archive: Any, name: str) -> Any:
        try:
            return archive[name]
        except ValueError as error:
            if "pickle" not in str(error):
                raise
            message = f'"{file}": "{name}" holds pickled Python objects, which are not read; save it as an array of numbers'
            raise DataError(message) from error

    # Opened here, because numpy leaves a file open that turns out to be broken.
    with file.open("rb") as stream:
        archive = np.load(stream, allow_pickle=False)
        if not isinstance(archive, Mapping):
            raise DataError(f'"{file}" holds one array, expected an archive of x and y: numpy.savez(path, x=x, y=y)')
        return {name: value(archive, name) if wanted is None or name in wanted else None for name in archive}


def _read_torch(file: Path) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(list(SAFE_CLASSES)):
            warnings.filterwarnings(
                "ignore", "Detected pickle protocol"
            )  # it is refused or read; there is nothing to do about it
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = ", ".join(_foreign_classes(file))
        needs = f"it needs {foreign}" if foreign else "it is no plain file of tensors"
        allowed = ", ".join(each.__name__ for each in SAFE_CLASSES)
        message = f'"{file}" is refused because unpickling it could run any program: {needs}; allowed are tensors and {allowed}'
        raise DataError(f"{message}; {_CONVERT}") from error
    if isinstance(content, Tensor):
        raise DataError(f'"{file}" holds one tensor, expected x and y; {_CONVERT}')
    return content


def _foreign_classes(file: Path) -> list[str]:
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except (OSError, ValueError, RuntimeError, pickle.UnpicklingError):
        return []
    allowed = {f"{each.__module__}.{each.__name__}" for each in SAFE_CLASSES}
    return sorted(set(names) - allowed)
