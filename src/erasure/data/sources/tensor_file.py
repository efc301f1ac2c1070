"""Tensors from a file: safetensors, NumPy's npz, and what ``torch.save`` wrote, without running anything the file brings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from annotated_types import MinLen

from erasure.data.arrays import Modality, dataset_from
from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.reading.files import existing_file, file_digest
from erasure.data.reading.picture_axes import Axes
from erasure.data.reading.tensor_files import read_tensors
from erasure.errors import DataError, nearest
from erasure.types import Json, PositiveFloat, PositiveInt, Task

__all__ = ["TensorFile"]


@dataclass(frozen=True, kw_only=True)
class TensorFile(DataSource):
    """Tensors in a file: ``.safetensors``, ``.npz``, or anything else written by ``torch.save``.

    A torch-saved file may hold a dict of tensors, a tuple ``(x, y)`` or ``(x, y, z)``, or a ``TensorDataset``, ``Subset`` or
    ``ConcatDataset`` of such, with an attribute (or key) ``n_classes``. It is read with ``weights_only=True``: a pickle that needs
    any other class is refused, because unpickling it could run any program.

    Args:
        path: The file, relative to the working directory; ``~`` is expanded.
        x: Name of the inputs in a file of named tensors.
        y: Name of the labels.
        z: Name of the groups; may be missing in the file if it is ``z``.
        n_classes: Number of classes, 1 or more; by default what the file says or one more than the largest label.
        task: How labels are read; by default ``multilabel`` if a label is a vector, else ``classification``.
        modality: What the inputs are; by default read off their type and shape.
        scale: Factor that turns whole numbers into model inputs, above 0; by default 1/255 for uint8 images.
        axes: Of pictures: ``channels_first``, ``channels_last`` or ``as_they_are``; by default they are recognised by their number of
            channels, and grey pictures without an axis for it get one.
    """

    is_digested: ClassVar[bool] = True

    path: Annotated[str, MinLen(1)]
    x: Annotated[str, MinLen(1)] = "x"
    y: Annotated[str, MinLen(1)] = "y"
    z: Annotated[str, MinLen(1)] = "z"
    n_classes: PositiveInt | None = None
    task: Task | None = None
    modality: Modality | None = None
    scale: PositiveFloat | None = None
    axes: Axes | None = field(default=None, metadata={"address": "changed"})

    def fingerprint(self) -> Json:
        """SHA-256 of the file."""
        return {"sha256": file_digest(self.path)}

    def load(self) -> Dataset:
        """Read the tensors and check them."""
        file = existing_file(self.path)
        content = read_tensors(file, {self.x, self.y, self.z, "n_classes"})
        n_classes = self.n_classes
        if isinstance(content, Mapping):
            n_classes = n_classes or _stored_count(content)
            content = self._columns(content)
        try:
            return dataset_from(
                content,
                n_classes=n_classes,
                task=self.task,
                name=file.stem,
                modality=self.modality,
                scale=self.scale,
                axes=self.axes,
            )
        except DataError as error:
            raise DataError(f"{self.path}: {error}") from error

    def _columns(self, named: Mapping[str, Any]) -> tuple[Any, ...]:
        wanted = [self.x, self.y] + ([self.z] if self.z in named or self.z != "z" else [])
        for name in wanted:
            if name not in named:
                there = ", ".join(str(each) for each in named) or "nothing"
                hint = nearest(name, map(str, named)) or "say which are the inputs and the labels by the parameters x and y"
                raise DataError(f'{self.path} has no tensor "{name}"; it has {there}; {hint}')
        return tuple(_value(named, name, self.path) for name in wanted)


def _stored_count(named: Mapping[str, Any]) -> int | None:
    if "n_classes" not in named:
        return None
    count = named["n_classes"]
    return int(count.item() if hasattr(count, "item") else count)


def _value(named: Mapping[str, Any], name: str, path: str) -> Any:
    value = named[name]
    if not hasattr(value, "shape"):
        raise DataError(f'{path}: "{name}" is a {type(value).__name__}, expected a tensor')
    return value
