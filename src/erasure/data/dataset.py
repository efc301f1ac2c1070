"""The contracts of data: what a source yields and what a splitter does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from torch import Tensor

from erasure.component import Component
from erasure.training.batches import Column
from erasure.types import Json, Partition, TaskKind

if TYPE_CHECKING:
    from erasure.data.preprocess.samples import Samples

__all__ = ["DataSource", "Dataset", "Splitter"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """A whole data set in columns.

    Args:
        name: How results call it.
        x: Inputs, N samples.
        y: Labels: ``(N,)`` int64 in ``[0, n_classes)`` for ``classification`` and ``binary``, ``(N, n_classes)`` float32 of
            0 and 1 for ``multilabel``.
        n_classes: Number of classes (2 for ``binary``), or of labels for ``multilabel``.
        task: How labels are read.
        modality: ``table``, ``image``, ``text`` or ``graph``; tables are standardised by default.
        z: Optional group, identity or sensitive attribute, ``(N,)`` or ``(N, m)`` int64.
        class_names: Name of each class, if known.
        feature_names: Name of each input column of a table, if known.
        value_names: Of input columns of a table that hold codes, what each code stands for, by the column's name, if known. Reports show
            samples by it.
        z_names: What each value of ``z`` stands for, if known.
        token_names: Of texts, how each token id reads, with the space before it, if known. Reports show samples by it; what is read from
            a store has none.
        x_shape: Shape of one input sample as the model sees it, such as ``(30,)`` or ``(1, 8, 8)``.
        clean_y: The labels before some were made wrong on purpose, like ``y``; None where none were.
        corrupted: ``(N,)`` bool, the samples whose label or input was changed on purpose; None where none were.
    """

    name: str
    x: Column
    y: Tensor
    n_classes: int
    x_shape: tuple[int, ...]
    task: TaskKind = "classification"
    modality: str = "table"
    z: Tensor | None = None
    class_names: tuple[str, ...] = ()
    feature_names: tuple[str, ...] = ()
    value_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    z_names: tuple[str, ...] = ()
    token_names: tuple[str, ...] = ()
    clean_y: Tensor | None = None
    corrupted: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def class_name(self, k: int) -> str:
        """Name of class ``k``; its number where classes have no names."""
        return str(self.class_names[k]) if k < len(self.class_names) else str(k)


@dataclass(frozen=True, kw_only=True)
class DataSource(Component):
    """Where data comes from."""

    kind: ClassVar[str] = "source"
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
