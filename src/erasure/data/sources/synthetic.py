"""Made-up data with known structure: classes, groups, wrong labels and samples that can only be memorised."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Ge
from torch import Tensor
from torch.nn import functional

from erasure.data.checks import checked
from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.errors import InvalidParameters
from erasure.training.batches import TensorColumn
from erasure.training.randomness import Streams
from erasure.types import Fraction, Json, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

__all__ = ["ORIGINS", "SyntheticImages", "SyntheticTable"]

ORIGINS = ("typical", "atypical", "mislabelled")
"""How a sample came about: the second z column of synthetic data."""

_Ints: TypeAlias = npt.NDArray[np.int64]
_Floats: TypeAlias = npt.NDArray[np.float64]

_PIXEL_NOISE = 0.1
_COARSE = 4
_MAX_SHIFT = 1


@dataclass(frozen=True)
class _Plan:
    """What each sample is, before it has any features.

    Args:
        label: The class it is given.
        region: The class whose features it gets.
        group: Its group.
        origin: Position in ``ORIGINS``.
    """

    label: _Ints
    region: _Ints
    group: _Ints
    origin: _Ints

    @property
    def atypical(self) -> _Ints:
        """Positions of the atypical samples."""
        return np.flatnonzero(self.origin == 1)


@dataclass(frozen=True, kw_only=True)
class _Synthetic(DataSource):
    """What synthetic tables and images share."""

    is_digested: ClassVar[bool] = True

    n_samples: PositiveInt = 1000
    n_classes: Annotated[int, Ge(2)] = 2
    class_balance: tuple[PositiveFloat, ...] = ()
    label_noise: Fraction = 0.0
    n_groups: PositiveInt = 1
    group_shift: NonNegativeFloat = 0.0
    separation: PositiveFloat = 1.0
    memorisation: Fraction = 0.0
    seed: NonNegativeInt = 0

    def check(self) -> None:
        """Fields that must fit each other."""
        name = type(self).__name__
        if self.class_balance and len(self.class_balance) != self.n_classes:
            raise InvalidParameters(f"{name}.class_balance: {len(self.class_balance)} weights for {self.n_classes} classes")
        if self.n_samples < self.n_classes:
            raise InvalidParameters(f"{name}.n_samples: {self.n_samples} samples cannot show {self.n_classes} classes")
        if self.memorisation + self.label_noise > 1:
            raise InvalidParameters(f"{name}.memorisation: together with label_noise it is more than all samples")

    def fingerprint(self) -> Json:
        """Version of the library whose generator makes the data."""
        return {"numpy": version("numpy")}

    def _plan(self, streams: Streams) -> _Plan:
        n, k = self.n_samples, self.n_classes
        label = streams.numpy("labels").permutation(np.repeat(np.arange(k), self._class_sizes()))
        region, origin = label.copy(), np.zeros(n, dtype=np.int64)
        order = streams.numpy("origins").permutation(n)
        n_atypical, n_wrong = round(self.memorisation * n), round(self.label_noise * n)
        atypical, wrong = order[:n_atypical], order[n_atypical : n_atypical + n_wrong]
        other = (label + 1 + streams.numpy("others").integers(0, k - 1, size=n)) % k
        origin[atypical], region[atypical] = 1, other[atypical]
        origin[wrong], label[wrong] = 2, other[wrong]
        return _Plan(label, region, streams.numpy("groups").integers(0, self.n_groups, size=n), origin)

    def _class_sizes(self) -> _Ints:
        """Samples of each class by largest remainder; every class has at least one."""
        weights = np.asarray(self.class_balance or [1.0] * self.n_classes)
        shares = weights / weights.sum() * (self.n_samples - self.n_classes)
        sizes: _Ints = np.floor(shares).astype(np.int64) + 1
        short = self.n_samples - int(sizes.sum())
        sizes[np.argsort(sizes - shares, kind="stable")[:short]] += 1
        return sizes

    def _dataset(self, plan: _Plan, x: TensorColumn, **facts: Any) -> Dataset:
        # Groups and origins have codes of their own each, so a splitter can tell them apart.
        z = np.stack([plan.group, plan.origin + self.n_groups], axis=1)
        return checked(
            Dataset(
                x=x,
                y=torch.from_numpy(plan.label),
                z=torch.from_numpy(z),
                n_classes=self.n_classes,
                x_shape=x.sample_shape,
                class_names=tuple(f"class {k}" for k in range(self.n_classes)),
                z_names=(*(f"group {g}" for g in range(self.n_groups)), *ORIGINS),
                **facts,
            )
        )


@dataclass(frozen=True, kw_only=True)
class SyntheticTable(_Synthetic):
    """A table of Gaussian clusters, one for each class, in random order.

    ``z`` has two columns: the group (0…G-1, ``group 0``…) and the sample's origin (``typical``, ``atypical``, ``mislabelled``), so
    ``ByZSplitter(z_labels="atypical")`` forgets exactly what can only be memorised. Each aspect has a random stream of its own:
    turning one knob leaves the rest of the samples as they were.

    Args:
        n_samples: Samples, at least as many as classes.
        n_features: Columns, 1 or more.
        n_classes: Classes, 2 or more.
        class_balance: Relative weight of each class, above 0; empty for equal ones. Every class has at least one sample. It
            holds before labels are made wrong.
        label_noise: Fraction of samples with the features of their class but another class's label, 0 to 1.
        n_groups: Number of groups; a sample's group is drawn uniformly.
        group_shift: Distance, in standard deviations of a cluster, that a group is moved in a direction of its own, 0 or more.
        separation: Distance between two class centres in standard deviations, above 0; only about that with more classes than
            features.
        memorisation: Fraction of samples that lie in another class's cluster, moved by ``separation`` in a random direction of
            their own, 0 to 1: nothing but their own features tells their label.
        seed: Of the generator; 0 or more.
    """

    n_features: PositiveInt = 20
    separation: PositiveFloat = 4.0

    def load(self) -> Dataset:
        """Draw the table."""
        streams = Streams(self.seed)
        plan = self._plan(streams)
        centres = self.separation / np.sqrt(2) * _directions(streams.numpy("centres"), self.n_classes, self.n_features)
        offsets = self.group_shift * _unit(streams.numpy("shifts").normal(size=(self.n_groups, self.n_features)))
        x = streams.numpy("noise").normal(size=(self.n_samples, self.n_features)) + centres[plan.region] + offsets[plan.group]
        own = _unit(streams.numpy("signatures").normal(size=(self.n_samples, self.n_features)))[plan.atypical]
        x[plan.atypical] += self.separation * own
        names = tuple(f"feature {j}" for j in range(self.n_features))
        column = TensorColumn(torch.from_numpy(x.astype(np.float32)))
        return self._dataset(plan, column, name="synthetic table", feature_names=names)


@dataclass(frozen=True, kw_only=True)
class SyntheticImages(_Synthetic):
    """Images of smooth patterns, one for each class, shifted by up to a pixel and noisy, in random order; 8 bits a value.

    ``z`` has two columns: the group (0…G-1, ``group 0``…) and the sample's origin (``typical``, ``atypical``, ``mislabelled``).

    Args:
        n_samples: Samples, at least as many as classes.
        image_size: Height and width in pixels, 4 or more.
        n_channels: Channels, 1 or more.
        n_classes: Classes, 2 or more.
        class_balance: Relative weight of each class, above 0; empty for equal ones. Every class has at least one sample. It
            holds before labels are made wrong.
        label_noise: Fraction of samples with the pattern of their class but another class's label, 0 to 1.
        n_groups: Number of groups; a sample's group is drawn uniformly.
        group_shift: Brightness, in standard deviations of the pixel noise, that tells neighbouring groups apart, 0 or more.
        separation: Contrast of a pattern in standard deviations of the pixel noise, above 0.
        memorisation: Fraction of samples that show another class's pattern with a random patch of their own, 0 to 1: nothing but
            that patch tells their label.
        seed: Of the generator; 0 or more.
    """

    image_size: Annotated[int, Ge(_COARSE)] = 16
    n_channels: PositiveInt = 1
    n_classes: Annotated[int, Ge(2)] = 4

    def load(self) -> Dataset:
        """Draw the images."""
        streams = Streams(self.seed)
        plan = self._plan(streams)
        shape = (self.n_samples, self.n_channels, self.image_size, self.image_size)
        x = streams.numpy("noise").standard_normal(size=shape, dtype=np.float32)
        shifts = streams.numpy("shifts").integers(-_MAX_SHIFT, _MAX_SHIFT + 1, size=(self.n_samples, 2)) + _MAX_SHIFT
        x += self.separation * self._patterns(streams)[plan.region, shifts[:, 0], shifts[:, 1]]
        brightness = plan.group - (self.n_groups - 1) / 2
        x += (self.group_shift * brightness).astype(np.float32)[:, None, None, None]
        self._stamp(x, plan.atypical, streams)
        pixels = np.clip(255 * (0.5 + _PIXEL_NOISE * x), 0, 255).round().astype(np.uint8)
        column = TensorColumn(torch.from_numpy(pixels), scale=1 / 255)
        return self._dataset(plan, column, name="synthetic images", modality="image")

    def _patterns(self, streams: Streams) -> npt.NDArray[np.float32]:
        """Each class's pattern in all its shifted positions: ``(K, 3, 3, C, S, S)``, mean 0 and standard deviation 1."""
        coarse = streams.numpy("patterns").normal(size=(self.n_classes, self.n_channels, _COARSE, _COARSE))
        size = (self.image_size, self.image_size)
        smooth: Tensor = functional.interpolate(torch.from_numpy(coarse), size=size, mode="bilinear", align_corners=True)
        flat = smooth.flatten(1)
        smooth = ((flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True)).reshape(smooth.shape)
        steps = range(-_MAX_SHIFT, _MAX_SHIFT + 1)
        shifted = torch.stack([torch.stack([smooth.roll((dy, dx), (2, 3)) for dx in steps], 1) for dy in steps], 1)
        patterns: npt.NDArray[np.float32] = shifted.float().numpy()
        return patterns

    def _stamp(self, x: npt.NDArray[np.float32], chosen: _Ints, streams: Streams) -> None:
        """Put a random patch of its own on each chosen image."""
        side = max(2, self.image_size // 3)
        generator = streams.numpy("patches")
        patches = generator.normal(size=(self.n_samples, self.n_channels, side, side))[chosen]
        corners = generator.integers(0, self.image_size - side + 1, size=(self.n_samples, 2))[chosen]
        rows = corners[:, 0, None, None, None] + np.arange(side)[None, None, :, None]
        columns = corners[:, 1, None, None, None] + np.arange(side)[None, None, None, :]
        channels = np.arange(self.n_channels)[None, :, None, None]
        x[chosen[:, None, None, None], channels, rows, columns] = 3 * patches


def _unit(vectors: _Floats) -> _Floats:
    scaled: _Floats = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return scaled


def _directions(generator: np.random.Generator, n_vectors: int, n_features: int) -> _Floats:
    """Unit vectors: orthogonal ones if there is room for them."""
    vectors = generator.normal(size=(n_vectors, n_features))
    if n_vectors > n_features:
        return _unit(vectors)
    orthogonal: _Floats = np.linalg.qr(vectors.T)[0].T
    return orthogonal
