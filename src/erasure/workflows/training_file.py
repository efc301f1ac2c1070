"""A person's own training, as a Python file with functions of known names, for the command ``erasure request``."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from erasure.durable import reported
from erasure.engine.saved_estimators import is_saved_estimator, load_estimator
from erasure.errors import DataError, MissingDependency, RequirementNotMet, nearest
from erasure.training.anatomy import load_state
from erasure.training.torchvision_operators import torchvision
from erasure.training.weights_files import read_weights

__all__ = ["TrainingFile", "loaded_model", "read_ids"]

_SHOWN = 5
_KNOWN = ("model", "data", "test", "fit", "ids", "columns")


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainingFile:
    """What a file says about a training.

    Args:
        path: The file.
        functions: Name to function, of ``data()``, ``fit(indices, seed)`` and, where there are any, ``model()``, ``test()``, ``ids()``
            and ``columns()``.
    """

    path: Path
    functions: dict[str, Any]

    @classmethod
    def load(cls, path: Path) -> TrainingFile:
        """Run the file, which its owner has named, and take its functions.

        Raises:
            RequirementNotMet: If it cannot be run, or has no ``data``.
        """
        name = f"erasure_training_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise RequirementNotMet(f"{path} is no Python file: expected functions data(), fit(indices, seed) and model() in it")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        sys.path.insert(0, str(path.resolve().parent))
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise RequirementNotMet(f"{path} cannot be run: {type(error).__name__}: {error}") from error
        finally:
            sys.path.remove(str(path.resolve().parent))
        functions = {each: getattr(module, each) for each in _KNOWN if callable(getattr(module, each, None))}
        if "data" not in functions:
            hint = nearest("data", [each for each in vars(module) if not each.startswith("_")])
            raise RequirementNotMet(f"{path} has no function data(), which gives the training set; {hint or 'write one'}")
        return cls(path=path, functions=functions)

    def call(self, name: str) -> Any:
        """What a function without arguments gives; None if the file has none of this name.

        Raises:
            RequirementNotMet: If it fails.
        """
        function = self.functions.get(name)
        if function is None:
            return None
        try:
            return function()
        except Exception as error:
            raise RequirementNotMet(f"{name}() in {self.path} failed: {type(error).__name__}: {error}") from error

    def chosen(self, n: int, *, ids: Sequence[str], where: Sequence[str], place: Sequence[int]) -> tuple[list[int], list[str]]:
        """Positions of the samples that are meant, and who asks.

        Args:
            n: Samples of the training set.
            ids: Ids of samples or people, as ``ids()`` gives them.
            where: ``column=value`` of ``columns()``.
            place: Positions.

        Raises:
            DataError: If an id or a value is not in the data, or the file does not know ids or columns.
        """
        found, who = set(place), [str(each) for each in place]
        if ids:
            known = self._column("ids", self.call("ids"), n)
            wanted = set(ids)
            missing = sorted(wanted.difference(known), key=list(ids).index)
            if missing:
                named = ", ".join(map(repr, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
                hint = nearest(missing[0], sorted(set(known)))
                raise DataError(f"{len(missing)} of {len(wanted)} ids are not in the data: {named}{f'; {hint}' if hint else ''}")
            found |= {position for position, each in enumerate(known) if each in wanted}
            who += ids
        for condition in where:
            name, mark, value = condition.partition("=")
            columns = self.call("columns") or {}
            if not mark or name not in columns:
                hint = ("" if name in columns else nearest(name, columns)) or f"there are {', '.join(columns) or 'none'}"
                raise DataError(f'"{condition}" should be COLUMN=VALUE with a column of columns() in {self.path}; {hint}')
            column = self._column(name, columns[name], n)
            some = {position for position, each in enumerate(column) if _is_same(each, value, columns[name])}
            if not some:
                hint = nearest(value, sorted(set(column)))
                raise DataError(f'no sample has the value {value!r} in the column "{name}"{f"; {hint}" if hint else ""}')
            found |= some
            who.append(condition)
        return sorted(found), who

    def _column(self, name: str, values: Any, n: int) -> list[str]:
        if values is None:
            raise DataError(
                f"{self.path} has no function {name}(), so nobody knows which samples are meant; use --positions, or write it"
            )
        written = [str(each) for each in np.asarray(values).tolist()]
        if len(written) != n:
            raise DataError(f"{name} has {len(written):,} values, and the training set has {n:,} samples")
        return written


def _is_same(written: str, value: str, column: Any) -> bool:
    """Whether a value of a column is what was asked for; numbers are compared as numbers, so that 8000 finds 8000.0."""
    if written == value:
        return True
    if not np.issubdtype(np.asarray(column).dtype, np.number):
        return False
    try:
        return float(written) == float(value)
    except ValueError:
        return False


def read_ids(path: Path) -> list[str]:
    """The ids in a file: one in a line, or several with commas between; quotes as in CSV keep a comma inside an id.

    A byte order mark, empty lines, and the line ends of Windows are left out.

    Raises:
        DataError: If it is no text in UTF-8.
    """
    with reported("read", path, option="--ids-file"):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is no text in UTF-8 (byte {error.start:,}); save it as UTF-8, with an id in each line"
        ) from error
    if "\0" in text:
        raise DataError(f"{path} is no text: expected an id in each line")
    return [cell.strip() for line in csv.reader(text.splitlines(), skipinitialspace=True) for cell in line if cell.strip()]


def loaded_model(path: Path, training: TrainingFile) -> Any:
    """A model as it was saved: an estimator, a Hugging Face folder, or weights for the network of ``model()``.

    Args:
        path: A folder of ``erasure.sklearn.save``; a folder with ``config.json``; a file of safetensors; a file of ``torch.save`` that
            holds tensors alone; or a folder with one such file.
        training: The file that has ``model()``.

    Raises:
        RequirementNotMet: If there is nobody to build the network, or the weights do not fit it.
        DataError: If there are no weights.
    """
    if is_saved_estimator(path):
        return load_estimator(path)
    if (path / "config.json").is_file():
        return _hugging_face(path)
    file = _weights_file(path)
    model = training.call("model")
    if not isinstance(model, nn.Module):
        raise RequirementNotMet(
            f"{training.path} needs a function model() that gives the untrained network for the weights in {file}"
        )
    try:
        load_state(model, read_weights(str(file)))
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        raise RequirementNotMet(f"the weights in {file} do not fit the network of model(): {first}") from error
    return model.eval()


def _hugging_face(path: Path) -> nn.Module:
    with suppress(MissingDependency):  # transformers imports torchvision where it is installed
        torchvision("transforms", "reading images")
    try:
        from transformers import AutoModelForSequenceClassification
    except ModuleNotFoundError as error:
        raise MissingDependency("transformers", "text", "loading a Hugging Face folder") from error
    model: nn.Module = AutoModelForSequenceClassification.from_pretrained(path, local_files_only=True, use_safetensors=True)
    return model.eval()


def _weights_file(path: Path) -> Path:
    if path.is_file():
        return path
    files = [each for suffix in ("safetensors", "pt", "pth") for each in sorted(path.glob(f"*.{suffix}"))]
    if len(files) != 1:
        raise DataError(f"expected one file of weights (.safetensors, .pt) in {path}, found {len(files)}; name the file itself")
    return files[0]
