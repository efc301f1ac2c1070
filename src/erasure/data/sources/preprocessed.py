"""Another source's data with preprocess steps applied."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Annotated

from annotated_types import MinLen

from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.preprocess.contract import Step
from erasure.errors import DataError
from erasure.types import Json

__all__ = ["Preprocessed"]


@dataclass(frozen=True, kw_only=True)
class Preprocessed(DataSource):
    """Data to which steps were applied, in order, once, before they are cached and cut.

    The parameter ``preprocess`` of any source is short for this, and so is ``preprocess`` of the data section.

    Args:
        data_source: Where the data comes from.
        steps: What is done to it.
    """

    data_source: DataSource
    steps: Annotated[tuple[Step, ...], MinLen(1)]

    def check(self) -> None:
        """Steps on steps are one list of steps."""
        if isinstance(self.data_source, Preprocessed):
            object.__setattr__(self, "steps", (*self.data_source.steps, *self.steps))
            object.__setattr__(self, "data_source", self.data_source.data_source)

    def fingerprint(self) -> Json:
        """The inner source's, and what each step depends on."""
        return {
            "numpy": version("numpy"),
            "of": self.data_source.fingerprint(),
            "steps": [step.fingerprint() for step in self.steps],
        }

    def load(self) -> Dataset:
        """Read the columns, apply the steps, and make numbers of the result."""
        samples = self.data_source.samples()
        for number, step in enumerate(self.steps):
            try:
                samples = step.apply(samples)
            except DataError as error:
                raise DataError(f"preprocess[{number}] ({type(step).__name__}): {error}") from error
        return self.data_source.finished(samples)
