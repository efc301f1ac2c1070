"""The data sets that come with scikit-learn: real, small, and always there."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from erasure.data.checks import checked
from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.training.batches import TensorColumn
from erasure.types import Json

__all__ = ["Sklearn"]

_FILES = {"digits": "digits.csv.gz", "breast_cancer": "breast_cancer.csv", "iris": "iris.csv", "wine": "wine_data.csv"}
_CELL = ["radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points", "symmetry"]
_CELL += ["fractal dimension"]
_WINE = ["alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids", "nonflavanoid_phenols"]
_WINE += ["proanthocyanins", "color_intensity", "hue", "od280/od315_of_diluted_wines", "proline"]
_FEATURES: Mapping[str, Sequence[str]] = {
    "breast_cancer": [pattern.format(of) for pattern in ("mean {}", "{} error", "worst {}") for of in _CELL],
    "iris": ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"],
    "wine": _WINE,
}


@dataclass(frozen=True)
class _Shipped:
    """Values ``(samples, features)``, labels, and names of classes and features."""

    values: np.ndarray[Any, np.dtype[np.float64]]
    target: np.ndarray[Any, np.dtype[np.int64]]
    target_names: Sequence[str]
    feature_names: Sequence[str]


def _shipped(name: str) -> _Shipped:
    """A data set from the library's file, if that is there and as it is known, else from the library, whose import takes longer."""
    spec = find_spec("sklearn")
    places = (Path(place) / "datasets" / "data" / _FILES[name] for place in (spec and spec.submodule_search_locations) or ())
    file = next((place for place in places if place.is_file()), None)
    found = _read(name, file) if file is not None else None
    if found is not None:
        return found
    from sklearn import datasets

    bunch: Any = getattr(datasets, f"load_{name}")()
    names = [str(each) for each in bunch.target_names]
    return _Shipped(bunch.data, bunch.target.astype(np.int64), names, [str(each) for each in bunch.feature_names])


def _read(name: str, file: Path) -> _Shipped | None:
    """What a file holds, its last column being the labels; None if it has another size than it says, or than is known."""
    with gzip.open(file, "rt") if file.suffix == ".gz" else file.open(encoding="utf-8") as lines:
        rows = list(csv.reader(lines))
    if name == "digits":
        size, names = (1797, 64), list("0123456789")
        features: Sequence[str] = ()
    else:
        size, names, features = (int(rows[0][0]), int(rows[0][1])), rows[0][2:], _FEATURES[name]
        rows = rows[1:]
    if len(rows) != size[0] or {len(row) for row in rows} != {size[1] + 1} or (features and len(features) != size[1]):
        return None
    table = np.array(rows, dtype=np.float64)
    return _Shipped(table[:, :-1], table[:, -1].astype(np.int64), names, features)


@dataclass(frozen=True, kw_only=True)
class Sklearn(DataSource):
    """A data set that is shipped with scikit-learn; nothing is downloaded.

    ``digits``: 1,797 images of 8×8 with 17 grey levels, 10 classes. ``breast_cancer``: 569 samples, 30 features, 2 classes.
    ``iris``: 150, 4, 3. ``wine``: 178, 13, 3. Features are not standardised here.

    Args:
        name: Which one.
    """

    is_digested: ClassVar[bool] = True

    name: Literal["digits", "breast_cancer", "iris", "wine"]

    def fingerprint(self) -> Json:
        """Version of the library that ships the data."""
        return {"scikit-learn": version("scikit-learn")}

    def load(self) -> Dataset:
        """Read the library's files into columns; no value is changed."""
        found = _shipped(self.name)
        names, labels = tuple(found.target_names), torch.from_numpy(found.target)
        if self.name == "digits":
            images = TensorColumn(torch.from_numpy(found.values.astype(np.uint8).reshape(-1, 1, 8, 8)), scale=1 / 16)
            data = Dataset(
                name=self.name,
                x=images,
                y=labels,
                n_classes=len(names),
                x_shape=images.sample_shape,
                modality="image",
                class_names=names,
            )
        else:
            table = TensorColumn(torch.from_numpy(found.values.astype(np.float32)))
            data = Dataset(
                name=self.name,
                x=table,
                y=labels,
                n_classes=len(names),
                x_shape=table.sample_shape,
                class_names=names,
                feature_names=tuple(found.feature_names),
            )
        return checked(data)
