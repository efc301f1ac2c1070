"""Files of named tensors for ``erasure new``: which are the inputs and which the labels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from erasure.data.reading.tensor_files import named_tensors
from erasure.errors import DataError, nearest
from erasure.workflows.new_data import AskLabel, DataChoice, chosen_from, refused

__all__ = ["chosen_tensors"]

_LABELS = {"y", "label", "labels", "target", "targets", "class", "classes"}
_INPUTS = {"x", "data", "image", "images", "img", "imgs", "input", "inputs", "feature", "features"}
_OTHER = {"z", "n_classes"}
"""Names that the source knows as something else."""


def chosen_tensors(path: Path, ask_label: AskLabel) -> DataChoice:
    """A file of tensors as a configuration names it: inputs and labels are told by their names, such as ``train_images`` and
    ``train_labels``, or the label is asked for.

    Args:
        path: A file that the source ``TensorFile`` reads.
        ask_label: Chooses the label.

    Raises:
        ConfigError: If it cannot be read, or which tensors are inputs and labels cannot be told.
    """
    try:
        named = named_tensors(path)
    except DataError as error:
        raise refused(str(error)) from error
    if named is None:
        return chosen_from("TensorFile", {"path": str(path)}, "samples")
    y = ask_label([name for name in named if name not in _OTHER], _likely(named))
    if y not in named:
        raise refused(f'"{path}" has no tensor "{y}"; there are {", ".join(named)}', nearest(y, named))
    x = _inputs(named, y)
    if not x:
        raise refused(
            f'"{path}": which of {", ".join(named)} are the inputs to the labels "{y}" cannot be told',
            "save them with numpy.savez(path, x=…, y=…), or begin with another configuration and give TensorFile the parameters x and y",
        )
    told = {name: given for name, given in (("x", x), ("y", y)) if given != name}
    left_out = [name for name in named if name not in (x, y, *_OTHER)]
    notices = [f"the tensors {', '.join(left_out)} are left out: {x} are the inputs, {y} the labels"] if left_out else []
    return chosen_from("TensorFile", {"path": str(path), **told}, "samples", notices)


def _words(name: str, known: set[str]) -> frozenset[str] | None:
    """The words of a name but for the one that says what it is; None if none does."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    words = [each for each in re.split(r"[^a-z0-9]+", apart.casefold()) if each]
    if not known & {*words}:
        return None
    return frozenset(words) - known


def _likely(named: Mapping[str, Any]) -> str:
    """The labels by their name: those that belong to inputs, of several those of the whole or of the training set; empty if it is open."""
    pairs = {
        rest: name
        for name in named
        if (rest := _words(name, _LABELS)) is not None and any(_words(x, _INPUTS) == rest for x in named)
    }
    of_all = pairs.get(frozenset()) or pairs.get(frozenset({"train"})) or pairs.get(frozenset({"training"}))
    return of_all or (next(iter(pairs.values())) if len(pairs) == 1 else "")


def _inputs(named: Mapping[str, Any], y: str) -> str:
    """The inputs that belong to labels: by their name, or the only other tensor of as many samples that can be; empty if it is open."""
    rest = _words(y, _LABELS)
    if "x" in named and y == "y":
        return "x"
    found = [name for name in named if name != y and rest is not None and _words(name, _INPUTS) == rest]
    if len(found) != 1:
        n = len(named[y]) if named[y].ndim else 0
        others = {name: each for name, each in named.items() if name not in (y, *_OTHER) and each.ndim and len(each) == n}
        choices = (
            [*others],
            [name for name in others if _words(name, _INPUTS) is not None],
            [k for k in others if others[k].ndim > 1],
        )
        found = next((each for each in choices if len(each) == 1), [])
    return found[0] if found else ""
