"""Steps for pictures and for what well-known data sets say about theirs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from erasure.data.preprocess.contract import NonEmptyColumns, Step
from erasure.data.preprocess.moving import elements
from erasure.data.preprocess.samples import Field, Samples, names_of
from erasure.data.reading.torchvision_labels import CIFAR100_COARSE, Coded, combined
from erasure.errors import DataError
from erasure.training.batches import TensorColumn

__all__ = ["CelebALabels", "CoarseClasses", "ImageToTensor"]


@dataclass(frozen=True, kw_only=True)
class ImageToTensor(Step):
    """The inputs become pictures ``(channels, height, width)`` with values in [0, 1].

    Whole numbers 0 to 255 are kept as uint8 and scaled when a batch is cut; floating-point values are taken as they are. Arrays without
    channels get one, and channels that come last are put first. The sources for pictures have done all this already.
    """

    def apply(self, samples: Samples) -> Samples:
        """Make pictures of the inputs."""
        x = samples.x
        if isinstance(x, TensorColumn) and (x.scale is not None or x.mean is not None):
            _check_dimensions(x.values)
            return replace(samples, modality="image")
        values = x.values if isinstance(x, TensorColumn) else _only_array(samples)
        values = _channels_first(values)
        if values.is_floating_point():
            return replace(samples, x=TensorColumn(values.to(torch.float32)), modality="image", categorical=())
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 255:
            raise DataError(f"the inputs hold whole numbers from {low} to {high}, expected 0 to 255")
        return replace(samples, x=TensorColumn(values.to(torch.uint8), scale=1 / 255), modality="image", categorical=())


@dataclass(frozen=True, kw_only=True)
class CoarseClasses(Step):
    """The labels become CIFAR-100's 20 coarse classes, and the 100 fine ones become the groups."""

    def apply(self, samples: Samples) -> Samples:
        """Look the classes up."""
        column = next(iter(samples.y.values()))
        fine = sorted((name, number) for number, each in enumerate(CIFAR100_COARSE.values()) for name in each.split())
        names, coarse = tuple(name for name, _ in fine), np.array([number for _, number in fine], dtype=np.int64)
        codes = column.values
        if len(samples.y) > 1 or codes.dtype.kind not in "iu" or codes.ndim > 1 or codes.min() < 0 or codes.max() >= len(names):
            raise DataError("the labels are not the 100 classes of CIFAR-100")
        if column.names and column.names != names:
            raise DataError(f'the labels are not the 100 classes of CIFAR-100: class 0 is "{column.names[0]}", not "{names[0]}"')
        return replace(samples, y={"coarse": Field(coarse[codes], tuple(CIFAR100_COARSE))}, z={"fine": Field(codes, names)})


@dataclass(frozen=True, kw_only=True)
class CelebALabels(Step):
    """Some of CelebA's attributes become the labels, and the identity becomes the group.

    The identity stays reachable as the second column of y, for steps that move it.

    Args:
        columns: The attributes, by name or by position from 0.
        multilabel: Whether each attribute is a label of its own; otherwise every combination is a class, read as a binary number whose
            first digit is the first attribute.
    """

    columns: NonEmptyColumns
    multilabel: bool = False

    def apply(self, samples: Samples) -> Samples:
        """Choose and combine the attributes."""
        if list(samples.y) != ["attributes", "identity"]:
            raise DataError(f"the labels are {', '.join(samples.y)}, expected CelebA's attributes and identity")
        bits, identity = samples.y["attributes"], samples.y["identity"]
        fields = elements({"attributes": bits})
        chosen = names_of(fields, self.columns, "y")
        values = np.stack([(fields[name].values > 0).astype(np.int64) for name in chosen], axis=1)
        if self.multilabel:
            label = Field(values, tuple(chosen))
        else:
            coded = combined(Coded(torch.from_numpy(values), tuple(chosen)))
            label = Field(coded.codes.numpy(), coded.names)
        return replace(samples, y={"label": label, "identity": identity}, z={"identity": identity})


def _only_array(samples: Samples) -> Tensor:
    fields = samples.inputs
    column, *others = fields.values()
    if others or column.values.dtype == object or column.values.ndim < 3:
        found = ", ".join(f"{name}: {each.values.dtype} {each.values.shape[1:]}" for name, each in list(fields.items())[:4])
        raise DataError(f"expected one array a sample of shape (height, width) or with channels, found {found}")
    return torch.from_numpy(np.ascontiguousarray(column.values))


def _channels_first(values: Tensor) -> Tensor:
    if values.ndim == 3:
        values = values.unsqueeze(1)
    _check_dimensions(values)
    if values.shape[1] not in {1, 3, 4} and values.shape[3] in {1, 3, 4}:
        values = values.permute(0, 3, 1, 2)
    if values.shape[1] not in {1, 3, 4}:
        raise DataError(f"a picture has 1, 3 or 4 channels, found arrays of shape {tuple(values.shape[1:])}")
    return values.contiguous()


def _check_dimensions(values: Tensor) -> None:
    if values.ndim != 4:
        raise DataError(f"a picture has channels, height and width, found arrays of shape {tuple(values.shape[1:])}")
