"""Fitted estimators of scikit-learn as plain files: numbers in safetensors, everything else in JSON, no pickle."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from erasure.durable import reported, write_atomically
from erasure.errors import DataError, RequirementNotMet

__all__ = ["STATE_FILE", "is_saved_estimator", "load_estimator", "save_estimator"]

STATE_FILE = "estimator.json"
_ARRAYS_FILE = "arrays.safetensors"
_FORMAT = 1
_PLAIN = (bool, int, float, str)
_BOOKKEEPING = {"unlearning_", "_sklearn_version"}


def is_saved_estimator(path: Path) -> bool:
    """Whether a folder was written by :func:`save_estimator`."""
    return (path / STATE_FILE).is_file()


def save_estimator(estimator: Any, folder: Path) -> None:
    """Write an estimator; the same estimator gives the same bytes.

    Raises:
        RequirementNotMet: If it holds something that is neither numbers, texts nor an object of scikit-learn made of these.
    """
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray[Any, Any]] = {}
    state = {"format": _FORMAT, "estimator": _written(estimator, type(estimator).__name__, arrays)}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / _ARRAYS_FILE, save(arrays), option="--folder")
    write_atomically(folder / STATE_FILE, json.dumps(state, sort_keys=True, allow_nan=True).encode(), option="--folder")


def load_estimator(folder: Path) -> Any:
    """The estimator of a folder. Objects are made of classes of scikit-learn alone, and nothing is executed.

    Raises:
        DataError: If the files are not those of an estimator.
    """
    from safetensors.numpy import load

    with reported("read", folder, option="--model"):
        content, numbers = (folder / STATE_FILE).read_bytes(), (folder / _ARRAYS_FILE).read_bytes()
    try:
        state = json.loads(content)
        if state["format"] != _FORMAT:
            raise DataError(f"{folder / STATE_FILE} has format {state['format']}, this version reads {_FORMAT}")
        return _read(state["estimator"], load(numbers))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder} holds no estimator that can be read ({type(error).__name__}: {error})") from error


def _written(value: Any, where: str, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, np.ndarray | np.generic):
        return _array(np.asarray(value), where, arrays) | ({"scalar": True} if isinstance(value, np.generic) else {})
    if type(value) in (list, tuple):
        return {"kind": type(value).__name__, "items": [_written(each, f"{where}.{n}", arrays) for n, each in enumerate(value)]}
    if isinstance(value, dict):
        pairs = [[_written(k, where, arrays), _written(v, f"{where}.{k}", arrays)] for k, v in value.items()]
        return {"kind": "dict", "items": pairs}
    if isinstance(value, type) and value.__module__ == "numpy":
        return {"kind": "dtype", "name": np.dtype(value).str}
    if type(value).__module__.partition(".")[0] == "sklearn":
        return _object(value, where, arrays)
    raise RequirementNotMet(
        f"{where} is a {type(value).__module__}.{type(value).__qualname__}, which cannot be saved without pickle; estimators made of "
        "numbers and texts can be, such as linear models, naive Bayes, trees and forests, and pipelines of them"
    )


def _object(value: Any, where: str, arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    name = f"{type(value).__module__}:{type(value).__qualname__}"
    if hasattr(value, "get_params"):
        found = {key: each for key, each in vars(value).items() if key not in _BOOKKEEPING}
        return {"kind": "estimator", "class": name, "state": _written(dict(sorted(found.items())), where, arrays)}
    if type(value).__name__ == "Tree":
        _, arguments, state = value.__reduce__()
        return {
            "kind": "tree",
            "class": name,
            "arguments": _written(arguments, where, arrays),
            "state": _written(state, where, arrays),
        }
    if isinstance(value, dict):  # a Bunch
        return {"kind": "dict", "items": [[key, _written(each, f"{where}.{key}", arrays)] for key, each in value.items()]}
    raise RequirementNotMet(
        f"{where} is a {name.replace(':', '.')}, which cannot be saved without pickle; retrain and record it in another way, or use an "
        "estimator made of numbers, such as a linear model, naive Bayes, a tree or a forest"
    )


def _array(value: np.ndarray[Any, Any], where: str, arrays: dict[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    if value.dtype.kind in "OU":
        items = value.reshape(-1).tolist()
        if not all(each is None or isinstance(each, _PLAIN) for each in items):
            if value.ndim == 1:
                return {"kind": "objects", "items": [_written(each, f"{where}.{n}", arrays) for n, each in enumerate(items)]}
            raise RequirementNotMet(f"{where} is an array of objects, which cannot be saved without pickle")
        return {"kind": "texts", "dtype": value.dtype.kind, "shape": list(value.shape), "items": items}
    fields = value.dtype.fields
    described: Any = value.dtype.str
    if fields is not None:
        names = list(value.dtype.names or ())
        formats, offsets = [fields[name][0].str for name in names], [fields[name][1] for name in names]
        described = {"names": names, "formats": formats, "offsets": offsets, "itemsize": value.dtype.itemsize}
        whole = np.zeros(value.shape, dtype=value.dtype)  # what lies between fields is whatever was in memory
        for name in names:
            whole[name] = value[name]
        value = whole
    key = f"{len(arrays):06d}"
    arrays[key] = np.frombuffer(np.ascontiguousarray(value).tobytes(), dtype=np.uint8).copy()
    return {"kind": "array", "name": key, "dtype": described, "shape": list(value.shape)}


def _read(value: Any, arrays: dict[str, np.ndarray[Any, Any]]) -> Any:
    if not isinstance(value, dict):
        return value
    kind = value["kind"]
    if kind in {"list", "tuple"}:
        items = [_read(each, arrays) for each in value["items"]]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        return {_read(k, arrays): _read(v, arrays) for k, v in value["items"]}
    if kind == "dtype":
        return np.dtype(value["name"]).type
    if kind == "texts":
        return np.array(value["items"], dtype=object if value["dtype"] == "O" else str).reshape(value["shape"])
    if kind == "objects":
        found = np.empty(len(value["items"]), dtype=object)
        found[:] = [_read(each, arrays) for each in value["items"]]
        return found
    if kind == "array":
        dtype = np.dtype(value["dtype"])
        read = np.frombuffer(arrays[value["name"]].tobytes(), dtype=dtype).reshape(value["shape"]).copy()
        return read[()] if value.get("scalar") else read
    cls = _class(value["class"])
    if kind == "tree":
        made = cls(*_read(value["arguments"], arrays))
        made.__setstate__(_read(value["state"], arrays))
        return made
    made = cls.__new__(cls)
    made.__dict__.update(_read(value["state"], arrays))
    return made


def _class(name: str) -> Any:
    module, _, qualified = name.partition(":")
    found = getattr(importlib.import_module(module), qualified, None) if module.partition(".")[0] == "sklearn" else None
    if not isinstance(found, type):
        raise DataError(f"{name.replace(':', '.')} is no class of scikit-learn")
    return found
