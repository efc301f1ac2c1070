"""Weights from a local file: read without unpickling, known by their content, and held against the network they are meant for."""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from erasure.errors import DataError, Diagnostic, InvalidParameters, RequirementNotMet
from erasure.training.anatomy import load_state
from erasure.training.weights_files import existing_file, read_weights

__all__ = ["holds_finished", "load_weights", "pinned_digest"]

_SHOWN = 4
_DEEPEST = 3


def load_weights(network: nn.Module, path: str, *, head: str, stem: str = "", dropped: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Copy a file's tensors into a network, by name.

    The prefix that makes the most names fit, such as ``module.`` or ``model.``, is taken off, and what is no part of the network, such as
    the weights of a loss, is left out with a warning. The head keeps its fresh weights where the file has none or has some of another
    shape, as for another number of classes, and with a warning where the file has a part of it. Where the network reads one channel and
    the file's stem several, the file's are summed up, which gives what the file's network makes of an image repeated in each.

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
        _tell_of_half_a_head(found, own, of_head, path)
        found = {name: value for name, value in found.items() if not name.startswith(f"{head}.")}
        found |= {name: own[name] for name in of_head}
    kernel = f"{stem}.weight"
    if kernel in found and kernel in own and own[kernel].ndim == 4 and own[kernel].shape[1] == 1 < found[kernel].shape[1]:
        found[kernel] = found[kernel].sum(1, keepdim=True)
    # Files from before BatchNorm counted its batches do not have the count, which nothing depends on.
    found |= {name: own[name] for name in own if name not in found and name.endswith(".num_batches_tracked")}
    found = _without_strangers(found, own, path)
    misfits = _misfits(found, own)
    if misfits:
        raise RequirementNotMet(
            f'the weights in "{path}" do not fit {type(network).__name__}: {"; ".join(misfits)}; '
            "give weights of the same network, or parameters that make this one the same"
        )
    load_state(network, found)
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
            found = _digest(*_stamp(existing_file(path)))
        except DataError as error:
            raise InvalidParameters([Diagnostic(str(error), path=parameter)]) from error
    else:
        files = [each for each in sorted(place.iterdir()) if _is_of_model(each)]
        if not files:
            raise InvalidParameters([Diagnostic(f'the folder "{path}" has no config.json and no weights', path=parameter)])
        names = [f"{each.name} {_digest(*_stamp(each))}" for each in files]
        found = hashlib.sha256("\n".join(names).encode()).hexdigest()
    if expected is not None and expected != found:
        message = f'expected "{path}" with SHA-256 {expected}, found {found}'
        hint = "the file has changed, or another one was meant; leave weights_sha256 out to take what is there"
        raise InvalidParameters([Diagnostic(message, path=parameter, hint=hint)])
    return found


def holds_finished(path: str) -> bool:
    """Whether a file holds a network of this package with its output layer, as runs keep them, and not the published network inside.

    Args:
        path: The file.

    Raises:
        DataError: If the file cannot be read.
    """
    found = read_weights(path)
    before = [name.removesuffix("head.weight") for name in found if name == "head.weight" or name.endswith(".head.weight")]
    return any(name.startswith(f"{prefix}trunk.") for prefix in before for name in found)


def _stamp(file: Path) -> tuple[str, int, int]:
    facts = file.stat()
    return str(file.absolute()), facts.st_mtime_ns, facts.st_size


@functools.lru_cache(maxsize=64)
def _digest(file: str, modified_ns: int, size: int) -> str:
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _is_of_model(file: Path) -> bool:
    return file.is_file() and (file.name == "config.json" or file.suffix in {".safetensors", ".bin"})


def _without_prefix(found: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names as the network has them: the prefix that makes the most of them fit is taken off.

    Names that fit without it, such as a plain ``fc.`` beside ``backbone.``, stay; all others keep their names and are left over.
    """
    prefixes = {"": 0}
    for name in found:
        parts = name.split(".")
        prefixes |= {".".join(parts[:k]) + ".": k for k in range(1, min(len(parts), _DEEPEST + 1))}

    def fitting(prefix: str) -> int:
        names = (name.removeprefix(prefix) for name in found if name.startswith(prefix))
        return sum(name in own for name in names)

    # Of equally good ones an average of weights (ema.) is the last choice, and the shortest the first.
    best = max(prefixes, key=lambda prefix: (fitting(prefix), "ema" not in prefix, -prefixes[prefix]))
    stripped = {name.removeprefix(best): value for name, value in found.items() if name.startswith(best)}
    if not best or not any(name in own for name in stripped):
        return found
    rest = {name: value for name, value in found.items() if not name.startswith(best)}
    return {**rest, **stripped}


def _tell_of_half_a_head(found: Mapping[str, Tensor], own: Mapping[str, Tensor], of_head: Sequence[str], path: str) -> None:
    """Warn of an output layer that is for these classes, but of which something is missing, such as the bias."""
    lacking = [name for name in of_head if name not in found]
    if lacking and any(name in found and found[name].shape == own[name].shape for name in of_head):
        warnings.warn(f'"{path}" lacks {", ".join(lacking)}: the output layer keeps its fresh weights', stacklevel=4)


def _without_strangers(found: dict[str, Tensor], own: Mapping[str, Tensor], path: str) -> dict[str, Tensor]:
    """What is not left over of parts that the network does not have, as of a loss or a normalisation; a warning names that.

    Only where all of the network's own tensors are there: otherwise the file is of another network, and nothing is left out.
    """
    inside = {name.partition(".")[0] for name in own}
    strangers = [name for name in found if name not in own and name.partition(".")[0] not in inside]
    if not strangers or any(name not in found and not name.endswith(".num_batches_tracked") for name in own):
        return found
    shown = ", ".join(strangers[:_SHOWN]) + (", …" if len(strangers) > _SHOWN else "")
    warnings.warn(f'"{path}" also holds {shown}, which the network does not have; it is left out', stacklevel=4)
    return {name: value for name, value in found.items() if name not in strangers}


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
