"""The contracts of data: what a source yields and what a splitter does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np
import torch
from torch import Tensor

from erasure.component import Component
from erasure.data.dataset import Dataset
from erasure.training.devices import Precision
from erasure.training.loop import EpochListener
from erasure.types import Json, Partition

if TYPE_CHECKING:
    from erasure.data.preprocess.samples import Samples

__all__ = ["DataSource", "ScoredSplitter", "Scores", "Splitter", "Training"]


@dataclass(frozen=True, kw_only=True)
class DataSource(Component):
    """Where data comes from."""

    kind: ClassVar[str] = "source"
    is_digested: ClassVar[bool] = False
    """Whether parameters, installed packages and what ``file_digest`` and ``folder_digest`` were asked decide its fingerprint alone."""
    wraps: ClassVar[Mapping[str, tuple[str, str]]] = {"preprocess": ("Preprocessed", "steps")}

    def fingerprint(self) -> Json:
        """What the content depends on beside the parameters: digests of files, versions of the libraries that ship the data.

        Cheap, and never downloads.

        Raises:
            DataError: If a file is missing or unreadable.
        """
        return None

    def load(self) -> Dataset:
        """Read everything into columns.

        Raises:
            DataError: If the data cannot be used; names the file, column or row.
        """
        raise NotImplementedError

    def samples(self) -> Samples:
        """The columns that preprocess steps work on: by default those of :meth:`load`.

        A source whose columns are texts before they become numbers gives those, so that steps can change them.

        Raises:
            DataError: If the data cannot be used.
        """
        from erasure.data.preprocess.samples import samples_of

        return samples_of(self.load())

    def finished(self, samples: Samples) -> Dataset:
        """The data set that :meth:`samples` make after all steps.

        Raises:
            DataError: If they are no numbers yet, or cannot be learned from.
        """
        from erasure.data.preprocess.finish import finished

        return finished(samples)


@dataclass(frozen=True, kw_only=True)
class Splitter(Component):
    """Cuts one partition in two.

    Args:
        parts_names: Names of the first and the second part; ``-`` throws a part away.
        ref_data: The partition to cut.
    """

    kind: ClassVar[str] = "splitter"

    parts_names: tuple[str, str]
    ref_data: Partition = "all"

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of all parts that :meth:`split` gives, in its order; ``-`` for one that is thrown away."""
        return self.parts_names

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, ...]:
        """Ids of the two parts, or of as many as :attr:`parts` names.

        Args:
            data: The data set, for labels and groups.
            partitions: Ids of every partition made so far, each ``(n,)`` int64.
            generator: The splitter's own random stream.

        Returns:
            Two int64 tensors without an id in common, together the ids of ``ref_data``, in a stable order.

        Raises:
            PartitionError: If the data cannot be split so; says what there is.
        """
        raise NotImplementedError

    def prepared(self, data: Dataset, partitions: Mapping[str, Tensor]) -> Dataset:
        """The data set as everybody sees it after the split: as it is, but for a splitter that gives samples further inputs.

        Args:
            data: The data set that was split.
            partitions: Ids of every partition made so far, those of :meth:`split` included.
        """
        return data

    def redefines(self) -> tuple[str, ...]:
        """Partitions that it replaces on purpose, of which nobody has to be warned."""
        return ()

    def settles(self) -> tuple[str, ...]:
        """Partitions of what is taken out of the data, which no later splitter may replace."""
        return ()

    def shows_again(self) -> str:
        """The partition whose samples the first part shows in another way; empty for splitters that cut."""
        return ""


Scores: TypeAlias = tuple[Tensor, ...]
"""A score of each sample, and further ones that break its ties; each ``(n,)``, float, on the CPU."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """How a splitter trains models.

    Args:
        device: Where they are trained.
        precision: ``fp32`` or ``bf16``.
        on_epoch: Called after each epoch.
    """

    device: torch.device = torch.device("cpu")  # noqa: RUF009 - a value that nothing can change
    precision: Precision = "fp32"
    on_epoch: EpochListener | None = None


@dataclass(frozen=True, kw_only=True)
class ScoredSplitter(Splitter):
    """A splitter that needs scores of samples first, such as those of models that it trains.

    In an experiment a stage of its own computes them, on the device, before the data are split, and splitters whose
    :meth:`scores_content` and :meth:`scored` partition are the same share it.
    """

    def needs_scores(self) -> bool:
        """Whether there is anything to score."""
        return True

    def scored(self) -> str:
        """The partition whose samples are scored."""
        return self.ref_data

    def scored_with(self) -> tuple[str, ...]:
        """Further partitions that the scores depend on."""
        return ()

    def scores_content(self, seed: int) -> Json:
        """What the scores depend on, besides the data, the scored samples and where models are trained.

        Args:
            seed: Root of the splitters' random streams.
        """
        raise NotImplementedError

    def scores(
        self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator, training: Training
    ) -> Scores:
        """Scores of the samples of :meth:`scored`, in the order of their ids.

        Args:
            data: The data set.
            partitions: Ids of every partition made so far.
            generator: The splitter's own random stream.
            training: How models are trained.

        Raises:
            PartitionError: If they cannot be computed.
        """
        raise NotImplementedError

    def split_by(self, scores: Scores, partitions: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The parts, as :meth:`Splitter.split` gives them; without scores if none are needed."""
        raise NotImplementedError

    def split(self, data: Dataset, partitions: Mapping[str, Tensor], generator: np.random.Generator) -> tuple[Tensor, ...]:
        """Score, and split by the scores."""
        scores = self.scores(data, partitions, generator, Training()) if self.needs_scores() else ()
        return self.split_by(scores, partitions)
