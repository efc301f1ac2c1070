"""The data sets that come with scikit-learn: real, small, and always there."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from erasure.data.checks import checked
from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.training.batches import TensorColumn
from erasure.types import Json

__all__ = ["Sklearn"]


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
        from sklearn import datasets

        bunch: Any = getattr(datasets, f"load_{self.name}")()
        names = tuple(str(each) for each in bunch.target_names)
        labels = torch.from_numpy(bunch.target.astype(np.int64))
        if self.name == "digits":
            images = TensorColumn(torch.from_numpy(bunch.images.astype(np.uint8)).unsqueeze(1), scale=1 / 16)
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
            table = TensorColumn(torch.from_numpy(bunch.data.astype(np.float32)))
            data = Dataset(
                name=self.name,
                x=table,
                y=labels,
                n_classes=len(names),
                x_shape=table.sample_shape,
                class_names=names,
                feature_names=tuple(str(each) for each in bunch.feature_names),
            )
        return checked(data)
