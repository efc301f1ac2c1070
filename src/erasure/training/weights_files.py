"""Files of named tensors, read without unpickling anything else."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erasure.errors import DataError, nearest

__all__ = ["existing_file", "read_weights"]

_INSIDE = ("state_dict", "model_state_dict", "model", "net", "weights")
_CONVERT = (
    "in a process that trusts it, write its tensors with "
    "safetensors.torch.save_file({name: t.contiguous() for name, t in model.state_dict().items()}, path) and name that file here"
)
_SHOWN = 4


def read_weights(path: str) -> dict[str, Tensor]:
    """Named tensors of a file: ``.safetensors``, or anything else that ``torch.save`` wrote, with ``weights_only=True``.

    A training checkpoint that keeps its weights under ``state_dict``, ``model_state_dict``, ``model``, ``net`` or ``weights`` is
    unwrapped.

    Raises:
        DataError: If the file is missing, damaged, holds no named tensors, or would need any other class to be unpickled.
    """
    file = existing_file(path)
    content = _read_safetensors(file) if file.suffix.lower() == ".safetensors" else _read_torch(file)
    while isinstance(content, Mapping) and not _is_named_tensors(content):
        inside = next((content[name] for name in _INSIDE if isinstance(content.get(name), Mapping)), None)
        if inside is None:
            break
        content = inside
    if not isinstance(content, Mapping) or not _is_named_tensors(content):
        found = (
            f"a dict of {', '.join(map(str, list(content)[:_SHOWN]))}" if isinstance(content, Mapping) else type(content).__name__
        )
        raise DataError(f'"{path}" holds {found}, expected named tensors: torch.save(model.state_dict(), path)')
    return dict(content)


def existing_file(path: str) -> Path:
    """The file at a path; ``~`` is expanded.

    Raises:
        DataError: If there is no such file, or it is a folder.
    """
    file = Path(path).expanduser()
    if file.is_file():
        return file
    if file.is_dir():
        raise DataError(f'"{path}" is a folder, expected a file of weights')
    there = [each.name for each in file.parent.iterdir()] if file.parent.is_dir() else []
    hint = nearest(file.name, there)
    raise DataError(f'there is no file "{path}"{f"; {hint}" if hint else ""}; weights are never downloaded')


def _is_named_tensors(content: Mapping[Any, Any]) -> bool:
    return bool(content) and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())


def _read_safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except SafetensorError as error:
        raise DataError(f'"{file}" is not a complete safetensors file: {error}') from error


def _read_torch(file: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # An unusual protocol is read or refused; there is nothing to do about it.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise DataError(
            f'"{file}" is refused because unpickling it could run any program: it holds more than tensors; {_CONVERT}'
        ) from error
    except Exception as error:  # damaged bytes make the reader fail in every possible way
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f'"{file}" cannot be read: {reason}; expected .safetensors or what torch.save wrote') from error
