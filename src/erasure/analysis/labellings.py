"""Who may trade places: blocks of unlearned and retrained models, and all ways to label them."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erasure.errors import DataError

__all__ = ["MAX_LABELLINGS", "Design", "Labellings", "labellings"]

MAX_LABELLINGS = 10_000
"""Labellings up to which all are tried; of larger designs this many are drawn, the observed one included."""


@dataclass(frozen=True)
class Design:
    """Blocks of models that may trade places if the method is retraining.

    Args:
        blocks: Numbers of unlearned and of retrained models of each block, both at least 1.

    Raises:
        DataError: If there is no block, or one without unlearned or without retrained models.
    """

    blocks: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """No block may be one-sided."""
        if not self.blocks or any(min(block) < 1 for block in self.blocks):
            raise DataError(f"every block needs an unlearned and a retrained model, found {self.blocks}")

    @property
    def n_models(self) -> int:
        """All models."""
        return sum(unlearned + golds for unlearned, golds in self.blocks)

    @property
    def n_unlearned(self) -> int:
        """Unlearned models."""
        return sum(unlearned for unlearned, _ in self.blocks)

    @property
    def degrees(self) -> int:
        """Degrees of freedom of the spread of golds inside blocks."""
        return sum(golds - 1 for _, golds in self.blocks)

    @property
    def n_labellings(self) -> int:
        """Ways to choose who plays the method."""
        return math.prod(math.comb(unlearned + golds, unlearned) for unlearned, golds in self.blocks)

    @property
    def smallest_p(self) -> float:
        """The smallest p-value of a difference in location that the design can give.

        One over the labellings that are tried; twice that where every block has as many unlearned as retrained models, because to
        swap all of them gives the same distance.
        """
        twins = 2 if all(unlearned == golds for unlearned, golds in self.blocks) else 1
        return twins / min(self.n_labellings, MAX_LABELLINGS)

    @property
    def tests_scatter(self) -> bool:
        """Whether there are unlearned models enough to ask if they scatter more than golds."""
        return len(self.blocks) >= 3 or self.n_unlearned >= 3

    @functools.cached_property
    def shares(self) -> tuple[float, ...]:
        """Weight of each block in the difference of means, inversely to its variance; they sum up to 1."""
        precisions = [1 / (1 / unlearned + 1 / golds) for unlearned, golds in self.blocks]
        return tuple(each / math.fsum(precisions) for each in precisions)

    @property
    def error(self) -> float:
        """Standard error of the difference of means, in standard deviations of one model."""
        pairs = zip(self.shares, self.blocks, strict=True)
        return math.sqrt(math.fsum(share**2 * (1 / unlearned + 1 / golds) for share, (unlearned, golds) in pairs))

    @functools.cached_property
    def slices(self) -> tuple[slice, ...]:
        """Rows of each block in an array of all models; in each block the unlearned ones come first."""
        ends = list(itertools.accumulate(unlearned + golds for unlearned, golds in self.blocks))
        return tuple(slice(start, end) for start, end in zip([0, *ends], ends, strict=False))

    def golds_alone(self) -> Design | None:
        """The design in which golds play the method against the rest of the golds; None if a block has too few of them."""
        if any(golds <= unlearned for unlearned, golds in self.blocks):
            return None
        return Design(tuple((unlearned, golds - unlearned) for unlearned, golds in self.blocks))


@dataclass(frozen=True, eq=False)
class Labellings:
    """Who plays the method, in each labelling; the first one is what was observed.

    Args:
        design: The blocks.
        players: ``(labellings, models)``, true for those who play the method.
        weights: ``(labellings, models)``; times the values, the weighted difference of means, method less golds.
        is_exact: Whether these are all there are.
    """

    design: Design
    players: NDArray[np.bool_]
    weights: NDArray[np.float64]
    is_exact: bool


@functools.lru_cache(maxsize=16)
def labellings(design: Design, *, seed: int = 0, most: int = MAX_LABELLINGS) -> Labellings:
    """All labellings of a design, or the observed one and random ones.

    Args:
        design: The blocks.
        seed: Of the random ones; it does not matter where all are tried.
        most: Number up to which all are tried, and which are drawn where there are more.
    """
    is_exact = design.n_labellings <= most
    players = _all(design) if is_exact else _drawn(design, seed, most)
    weights = np.zeros(players.shape)
    for rows, share, (unlearned, golds) in zip(design.slices, design.shares, design.blocks, strict=True):
        weights[:, rows] = np.where(players[:, rows], share / unlearned, -share / golds)
    for array in (players, weights):
        array.flags.writeable = False  # they are shared by every method of a report
    return Labellings(design, players, weights, is_exact)


def _all(design: Design) -> NDArray[np.bool_]:
    """Every choice of players in every block; the first choice of each is its first models."""
    tables = []
    for unlearned, golds in design.blocks:
        chosen = np.array(list(itertools.combinations(range(unlearned + golds), unlearned)))
        table = np.zeros((len(chosen), unlearned + golds), dtype=bool)
        np.put_along_axis(table, chosen, values=True, axis=1)
        tables.append(table)
    index = np.indices([len(table) for table in tables]).reshape(len(tables), -1)
    return np.concatenate([table[rows] for table, rows in zip(tables, index, strict=True)], axis=1)


def _drawn(design: Design, seed: int, most: int) -> NDArray[np.bool_]:
    generator = np.random.default_rng(seed)
    players = np.zeros((most, design.n_models), dtype=bool)
    for rows, (unlearned, golds) in zip(design.slices, design.blocks, strict=True):
        chosen = generator.random((most, unlearned + golds)).argsort(axis=1)[:, :unlearned]
        chosen[0] = np.arange(unlearned)
        np.put_along_axis(players[:, rows], chosen, values=True, axis=1)
    return players
