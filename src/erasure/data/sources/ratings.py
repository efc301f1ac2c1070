"""Made-up ratings: which items users have, from tastes, popularity and chance, for recommenders."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from annotated_types import Ge

from erasure.data.checks import checked
from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.training.batches import TensorColumn
from erasure.training.randomness import Streams
from erasure.types import Fraction, Json, NonNegativeFloat, NonNegativeInt, OpenFraction, PositiveInt

__all__ = ["SyntheticRatings"]


@dataclass(frozen=True, kw_only=True)
class SyntheticRatings(DataSource):
    r"""Users and the items they have, drawn from tastes they share with others, from the items' popularity, and by chance.

    .. math:: \Pr[\text{user } u \text{ has item } i] = \sigma\Bigl(b_i + s\, \frac{t_u \cdot v_i}{\sqrt{d}}\Bigr)

    with normal tastes ``t`` and properties ``v`` of ``d`` factors, and popularities ``b`` that fall like the logarithm of the rank,
    shifted so that a share ``density`` of all pairs is there. A sample is a user: its input the items that a recommender sees, its
    labels all items that the user has; a share ``hidden`` of these is missing from the input. No real person's ratings; those
    are read by ``RatingsFile``.

    Args:
        n_users: Samples.
        n_items: Inputs and labels.
        n_factors: ``d``.
        strength: ``s``: how much tastes count, 0 or more.
        density: Share of all pairs that is there on average, above 0.
        popularity: How fast popularity falls with the rank of an item, 0 or more.
        hidden: Share of a user's items that the input lacks, 0 to 1.
        seed: Of the generator; 0 or more.
    """

    is_digested: ClassVar[bool] = True

    n_users: PositiveInt = 1000
    n_items: Annotated[int, Ge(2)] = 100
    n_factors: PositiveInt = 8
    strength: NonNegativeFloat = 2.0
    density: OpenFraction = 0.1
    popularity: NonNegativeFloat = 1.0
    hidden: Fraction = 0.2
    seed: NonNegativeInt = 0

    def fingerprint(self) -> Json:
        """Version of the library whose generator makes the data."""
        return {"numpy": version("numpy")}

    def load(self) -> Dataset:
        """Draw the table."""
        streams = Streams(self.seed)
        tastes = streams.numpy("tastes").normal(size=(self.n_users, self.n_factors))
        properties = streams.numpy("properties").normal(size=(self.n_items, self.n_factors))
        ranks = streams.numpy("ranks").permutation(self.n_items) + 1
        logits = self.strength * tastes @ properties.T / np.sqrt(self.n_factors) - self.popularity * np.log(ranks)
        chance = 1 / (1 + np.exp(-(logits + self._shift(logits))))
        has = streams.numpy("items").random(size=chance.shape) < chance
        is_seen = streams.numpy("hidden").random(size=chance.shape) >= self.hidden
        return checked(
            Dataset(
                x=TensorColumn(torch.from_numpy((has & is_seen).astype(np.float32))),
                y=torch.from_numpy(has.astype(np.float32)),
                n_classes=self.n_items,
                x_shape=(self.n_items,),
                task="multilabel",
                class_names=tuple(f"item {i}" for i in range(self.n_items)),
                feature_names=tuple(f"item {i}" for i in range(self.n_items)),
                name="synthetic ratings",
            )
        )

    def _shift(self, logits: npt.NDArray[np.float64]) -> float:
        """What has to be added to all logits for the wanted density, by bisection."""
        low, high, middle = -100.0, 100.0, 0.0
        for _ in range(60):
            if (1 / (1 + np.exp(-np.clip(logits + middle, -500, 500)))).mean() < self.density:
                low = middle
            else:
                high = middle
            middle = (low + high) / 2
        return middle
