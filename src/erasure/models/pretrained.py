"""Weights from a local file: read without unpickling, known by their content, and held against the network they are meant for."""

from __future__ import annotations

import functools
import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from erasure.errors import DataError, InvalidParameters, Problem, RequirementNotMet, nearest

__all__ = ["load_weights", "pinned_digest", "read_weights"]

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
    file = _existing(path)
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


def load_weights(network: nn.Module, path: str, *, head: str, stem: str = "", dropped: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Copy a file's tensors into a network, by name.

    A prefix that all names of the file share, such as ``module.`` or ``model.``, is taken off. The head keeps its fresh weights where
    the file has none or has some of another shape, as for another number of classes. Where the network reads one channel and the
    file's stem several, the file's are summed up, which gives what the file's network makes of an image repeated in each.

    Args:
        network: Changed in place.
        path: The file.
        head: Name of the output layer inside the network; empty if it has none.
        stem: Name of the first convolution.
        dropped: Names in the file, or what they begin with, that are no part of the network, such as auxiliary outputs.

    Returns:
        The tensors of the head that keep their fresh weights.

    Raises:
        DataError: If the file cannot be read.
        RequirementNotMet: If any other tensor is missing, left over or of another shape; lists them all.
    """
    own = network.state_dict()
    found = _without_prefix(read_weights(path), own)
    found = {name: value for name, value in found.items() if not name.startswith(dropped)} if dropped else found
    of_head = [name for name in own if head and name.startswith(f"{head}.")]
    fits = all(name in found and found[name].shape == own[name].shape for name in of_head)
    if not fits:
        found = {name: value for name, value in found.items() if not name.startswith(f"{head}.")}
        found |= {name: own[name] for name in of_head}
    kernel = f"{stem}.weight"
    if kernel in found and kernel in own and own[kernel].ndim == 4 and own[kernel].shape[1] == 1 < found[kernel].shape[1]:
        found[kernel] = found[kernel].sum(1, keepdim=True)
    # Files from before BatchNorm counted its batches do not have the count, which nothing depends on.
    found |= {name: own[name] for name in own if name not in found and name.endswith(".num_batches_tracked")}
    misfits = _misfits(found, own)
    if misfits:
        raise RequirementNotMet(
            f'the weights in "{path}" do not fit {type(network).__name__}: {"; ".join(misfits)}; '
            "give weights of the same network, or parameters that make this one the same"
        )
    network.load_state_dict(found)
    return () if fits else tuple(of_head)


def pinned_digest(parameter: str, path: str, expected: str | None) -> str:
    """SHA-256 of a file, or of the configuration and weights in a folder, so that results are never cached under a path alone.

    Args:
        parameter: Which parameter names it, such as ``TimmModel.weights``, for the message.
        path: File or folder.
        expected: What it must be; None takes what it is.

    Raises:
        InvalidParameters: If it is missing or differs.
    """
    place = Path(path).expanduser()
    if not place.is_dir():
        try:
            found = _digest(*_stamp(_existing(path)))
        except DataError as error:
            raise InvalidParameters([Problem(str(error), path=parameter)]) from error
    else:
        files = [each for each in sorted(place.iterdir()) if _is_of_model(each)]
        if not files:
            raise InvalidParameters([Problem(f'the folder "{path}" has no config.json and no weights', path=parameter)])
        names = [f"{each.name} {_digest(*_stamp(each))}" for each in files]
        found = hashlib.sha256("\n".join(names).encode()).hexdigest()
    if expected is not None and expected != found:
        message = f'expected "{path}" with SHA-256 {expected}, found {found}'
        hint = "the file has changed, or another one was meant; leave weights_sha256 out to take what is there"
        raise InvalidParameters([Problem(message, path=parameter, hint=hint)])
    return found


def _stamp(file: Path) -> tuple[str, int, int]:
    facts = file.stat()
    return str(file.absolute()), facts.st_mtime_ns, facts.st_size


@functools.lru_cache(maxsize=64)
def _digest(file: str, modified_ns: int, size: int) -> str:
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_of_model(file: Path) -> bool:
    return file.is_file() and (file.name == "config.json" or file.suffix in {".safetensors", ".bin"})


def _existing(path: str) -> Path:
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


def _without_prefix(found: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    while not any(name in own for name in found):
        prefix = next(iter(found)).partition(".")[0] + "."
        if not all(name.startswith(prefix) and len(name) > len(prefix) for name in found):
            break
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def _misfits(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    other = [
        f"{name} is {tuple(found[name].shape)}, expected {tuple(own[name].shape)}"
        for name in own
        if name in found and found[name].shape != own[name].shape
    ]
    kinds = {
        "missing": [name for name in own if name not in found],
        "left over": [name for name in found if name not in own],
        "of another shape": other,
    }
    return [
        f"{len(names)} {kind} ({', '.join(names[:_SHOWN])}{', …' if len(names) > _SHOWN else ''})"
        for kind, names in kinds.items()
        if names
    ]
