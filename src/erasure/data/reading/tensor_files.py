"""Files of tensors and arrays: safetensors, NumPy's npz, and what ``torch.save`` wrote, without running anything the file brings."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Subset, TensorDataset

from erasure.errors import DataError

__all__ = ["SAFE_CLASSES", "named_tensors", "read_tensors"]

SAFE_CLASSES: tuple[type, ...] = (TensorDataset, Subset, ConcatDataset, range)
"""What a torch-saved file may hold beyond plain tensors and containers: these only keep tensors and indices."""

_CONVERT = 'where you trust the file, load it and save plain tensors: torch.save({"x": x, "y": y, "n_classes": k}, path)'


def named_tensors(file: Path) -> dict[str, Any] | None:
    """Every array or tensor of a file by its name; None if it holds no names.

    Raises:
        DataError: If the file cannot be read.
    """
    content = read_tensors(file, None)
    return (
        {str(name): value for name, value in content.items() if hasattr(value, "shape")} if isinstance(content, Mapping) else None
    )


def read_tensors(file: Path, wanted: Container[str] | None) -> Any:
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
