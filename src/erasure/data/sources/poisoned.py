"""Another source's data with some samples made wrong on purpose."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version

from erasure.data.checks import checked
from erasure.data.contract import DataSource
from erasure.data.corruption import Corruption
from erasure.data.dataset import Dataset
from erasure.training.randomness import Streams
from erasure.types import Json, NonNegativeInt

__all__ = ["Poisoned"]


@dataclass(frozen=True, kw_only=True)
class Poisoned(DataSource):
    """Data of which some samples are mislabelled, confused or backdoored, and known to be.

    The splitter ``Corrupted`` cuts those samples off. Cut them off first and draw the test set from the clean ones, since the
    samples are chosen before anything is split. Several corruptions are one such source inside another.

    Args:
        data_source: Where the data comes from.
        corruption: What is done to it.
        seed: Of the samples and labels that are drawn; it does not follow the run's seed.
    """

    data_source: DataSource
    corruption: Corruption
    seed: NonNegativeInt = 0

    def fingerprint(self) -> Json:
        """The inner source's, and the version of the library that draws."""
        return {"numpy": version("numpy"), "of": self.data_source.fingerprint()}

    def load(self) -> Dataset:
        """Load the data and corrupt it."""
        return checked(self.corruption.corrupt(self.data_source.load(), Streams(self.seed)))
