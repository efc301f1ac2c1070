"""Data sets of torchvision by name, read once into uint8 columns."""

from __future__ import annotations

import bisect
import inspect
import itertools
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from annotated_types import MinLen
from torch import Tensor

from erasure.data.checks import checked
from erasure.data.contract import DataSource
from erasure.data.dataset import Dataset
from erasure.data.fields import Names
from erasure.data.preprocess.samples import Field, Samples, samples_of
from erasure.data.reading.folders import folder_digest
from erasure.data.reading.images import PicturePreparation, recipe, stacked
from erasure.data.reading.torchvision_files import data_folder, image_folder, missing_files, opened
from erasure.data.reading.torchvision_labels import Coded, columns_of, combined
from erasure.errors import DataError, InvalidParameters, nearest
from erasure.training.batches import TensorColumn
from erasure.training.torchvision_operators import torchvision
from erasure.types import Json, PositiveInt

__all__ = ["TorchVision"]

_ELSEWHERE = {"address": False}  # the fingerprint says what the files hold, wherever they are

_PARTS = {
    **dict.fromkeys(("ImageNet", "Imagenette", "CLEVRClassification"), ("train", "val")),
    **dict.fromkeys(("OxfordIIITPet", "FGVCAircraft"), ("trainval", "test")),
    "Places365": ("train-standard", "val"),
}
"""What the parts are called where they are not train and test."""

_OURS = frozenset({"root", "download", "transform", "transforms", "target_transform", "target_type"})

LabelColumn = Literal["class", "coarse", "attributes", "identity"]
ZColumn = Literal["class", "coarse", "attributes", "identity", "part", "none"]


@dataclass(frozen=True, kw_only=True)
class TorchVision(DataSource):
    """A data set of ``torchvision.datasets`` for classification: pictures with one class each, or CelebA's attributes.

    Its parts for training and for testing are put one below the other; ``z`` says which part a sample is from, so that a splitter
    can cut there. Pictures stay uint8 and become numbers in [0, 1] when a batch is cut. Nothing is fetched unless ``download``
    is true.

    Args:
        dataset: Name of the class, such as ``FashionMNIST``, or its path ``torchvision.datasets.FashionMNIST``. ``ImageFolder``
            takes a folder with one folder of pictures a class.
        root: Folder that torchvision looks in; relative to the working directory, ``~`` is expanded.
        parameters: More parameters of the class, such as ``{"split": "letters"}`` for ``EMNIST``. One that names a part
            (``train``, or ``split`` where that is a part) reads this part only.
        parts: Parts to read, by the class's own names; by default those for training and for testing.
        transforms: ``Resize``, ``CenterCrop``, ``Grayscale``, ``ToTensor`` and ``Normalize`` with torchvision's arguments as
            text, such as ``Resize((32, 32))``. Pictures are scaled to [0, 1] with or without ``ToTensor``.
        mean: Subtracted from the scaled values, one number for each channel or for all; with ``std`` the same as ``Normalize``.
        std: Divided by afterwards.
        channels: 1 makes pictures grey, 3 makes them colour; by default as the first picture is.
        label: What is learned: ``class`` (by default), the ``coarse`` class of CIFAR-100, the ``attributes`` (by default) or the
            ``identity`` of CelebA.
        attributes: Attributes of CelebA in use; empty for all.
        z: Groups: the same columns, ``part``, or ``none``; several give one column each. By default the identity for CelebA, else
            the part if there are several.
        task: ``multilabel`` for attributes as separate labels (their default); with ``classification`` each combination of the
            ``attributes`` is a class, read as a binary number whose first digit is the first attribute.
        n_classes: Number of classes, by default as many as the data set names.
        download: Whether files that are not there are fetched.
        name: How results call the data; by default the class.
    """

    is_digested: ClassVar[bool] = True

    dataset: Annotated[str, MinLen(1)]
    root: Annotated[str, MinLen(1)] = field(default="resources/data", metadata=_ELSEWHERE)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    parts: Names = ()
    transforms: Names = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    channels: Literal[1, 3] | None = None
    label: LabelColumn | None = None
    attributes: Names = ()
    z: ZColumn | tuple[ZColumn, ...] | None = None
    task: Literal["classification", "binary", "multilabel"] | None = None
    n_classes: PositiveInt | None = None
    download: bool = field(default=False, metadata=_ELSEWHERE)
    name: str = ""

    def check(self) -> None:
        """Transforms that can be done, and parameters that are not fields of the source."""
        recipe(self.transforms, self.mean, self.std)
        taken = sorted(_OURS & set(self.parameters))
        if taken:
            raise InvalidParameters(
                f"TorchVision.parameters: {', '.join(taken)} cannot be given here; use the source's own fields"
            )

    def fingerprint(self) -> Json:
        """Digest of the files, and the versions of the libraries that read them."""
        cls = self._class()
        generated = "root" not in inspect.signature(cls).parameters
        found = None if generated else folder_digest(data_folder(cls, self._root()))
        if found is None and not self.download and not generated:
            raise DataError(missing_files(cls, self._root()))
        return {"files": found, "versions": {each: _version(each) for each in ("torchvision", "pillow")}}

    def load(self) -> Dataset:
        """Decode every picture."""
        cls = self._class()
        parts = {name: self._made(cls, chosen) for name, chosen in self._chosen(cls).items()}
        for name, part in parts.items():
            n_labels = len(getattr(part, "targets", part))
            if n_labels != len(part):
                what = f"{cls.__name__}{f', {name}' if name else ''}: {len(part)} pictures and {n_labels} labels"
                raise DataError(
                    f'{what}; a file in "{data_folder(cls, self._root())}" is damaged or of another set: get them again'
                )
        made = recipe(self.transforms, self.mean, self.std)
        x = made.column(_pictures(parts, made, cls.__name__, self.channels))
        columns = columns_of(list(parts.values()), self.attributes)
        columns["part"] = Coded.of_groups([len(each) for each in parts.values()], tuple(parts))
        return checked(self._dataset(x, columns, cls.__name__, len(parts)))

    def samples(self) -> Samples:
        """The pictures and their labels; of CelebA the attributes and, as a second label, the identity."""
        if (
            self.dataset.rpartition(".")[2] != "CelebA"
            or self.label not in {None, "attributes"}
            or self.z not in {None, "identity"}
        ):
            # The number of classes is that of the labels which the steps make.
            return replace(samples_of(self.replace(n_classes=None).load()), n_classes=self.n_classes)
        data = self.replace(z="identity", task="multilabel").load()
        bits, identity = Field(data.y.to(torch.int64).numpy(), data.class_names), Field(cast(Tensor, data.z).numpy())
        return replace(samples_of(data), y={"attributes": bits, "identity": identity}, z={"identity": identity}, task=None)

    def _dataset(self, x: TensorColumn, columns: Mapping[str, Coded], called: str, n_parts: int) -> Dataset:
        label = self.label or ("class" if "class" in columns else "attributes")
        chosen = self._column(columns, label, called)
        task = self.task or ("multilabel" if label == "attributes" else "classification")
        z, z_names = self._groups(columns, called, n_parts)
        if task == "multilabel":
            if label != "attributes":
                raise DataError(f"{called}: only attributes can be learned as several labels, not the {label}")
            y, names = chosen.codes.to(torch.float32), chosen.names
        else:
            chosen = combined(chosen) if label == "attributes" else chosen
            y, names = chosen.codes, chosen.names
            if label == "identity":
                found, y = torch.unique(y, return_inverse=True)
                names = tuple(str(identity) for identity in found.tolist())
        n_classes = self.n_classes or (
            2 if task == "binary" else max(len(names), 0 if task == "multilabel" else int(y.max()) + 1)
        )
        return Dataset(
            name=self.name or called,
            x=x,
            y=y,
            z=z,
            n_classes=n_classes,
            task=task,
            modality="image",
            x_shape=x.sample_shape,
            class_names=names if len(names) == n_classes else (),
            z_names=z_names,
        )

    def _groups(self, columns: Mapping[str, Coded], called: str, n_parts: int) -> tuple[Tensor | None, tuple[str, ...]]:
        asked = self.z if isinstance(self.z, tuple) else () if self.z is None else (self.z,)
        if not asked:
            asked = ("identity",) if "identity" in columns else ("part",) if n_parts > 1 else ()
        chosen = {each: self._column(columns, each, called) for each in asked if each != "none"}
        chosen = {name: combined(each) if name == "attributes" else each for name, each in chosen.items()}
        if not chosen:
            return None, ()
        if len(chosen) == 1:
            (only,) = chosen.values()
            return only.codes, only.names
        codes: list[Tensor] = []
        names: list[str] = []
        for name, each in chosen.items():
            found, dense = torch.unique(each.codes, return_inverse=True)
            # Codes of different columns never coincide, so a splitter can tell them apart.
            codes.append(dense + len(names))
            names += [f"{name}={each.names[code] if each.names else code}" for code in found.tolist()]
        return torch.stack(codes, dim=1), tuple(names)

    def _column(self, columns: Mapping[str, Coded], name: str, called: str) -> Coded:
        if name not in columns:
            raise DataError(f'{called} has no "{name}"; it has {", ".join(columns)}')
        return columns[name]

    def _root(self) -> Path:
        return Path(self.root).expanduser()

    def _class(self) -> Any:
        library = torchvision("datasets", f'the data set "{self.dataset}"')
        folder, _, name = self.dataset.rpartition(".")
        known = [each for each in library.__all__ if isinstance(getattr(library, each), type)]
        if name not in known or (folder and folder.split(".")[:2] != ["torchvision", "datasets"]):
            hint = nearest(name, known)
            raise DataError(f'torchvision.datasets has no "{self.dataset}"{f"; {hint}" if hint else ""}')
        return getattr(library, name)

    def _chosen(self, cls: Any) -> dict[str, dict[str, Any]]:
        """Name of each part to the parameters that select it."""
        accepted = inspect.signature(cls).parameters
        by_flag = "train" in accepted or cls.__name__ == "EMNIST"
        if by_flag:
            flags = {"train": True, "test": False}
            if "train" in self.parameters:
                return {"train" if self.parameters["train"] else "test": {}}
            odd = [part for part in self.parts if part not in flags]
            if odd:
                raise DataError(f"{cls.__name__} has no part {', '.join(odd)}; it has train and test")
            return {part: {"train": flags[part]} for part in self.parts or flags}
        if "split" in accepted and cls.__name__ != "EMNIST":
            if "split" in self.parameters:
                return {str(self.parameters["split"]): {}}
            return {part: {"split": part} for part in self.parts or _PARTS.get(cls.__name__, ("train", "test"))}
        if self.parts:
            raise DataError(f"{cls.__name__} has no parts; leave parts out")
        return {"": {}}

    def _made(self, cls: Any, chosen: Mapping[str, Any]) -> Any:
        accepted = inspect.signature(cls).parameters
        given = {**self.parameters, **chosen}
        if "root" in accepted:
            given["root"] = str(self._root())
        if "download" in accepted or cls.__name__ in {"EMNIST", "QMNIST"}:
            given["download"] = self.download
        try:
            inspect.signature(cls).bind(**given)
        except TypeError as error:
            raise DataError(f"{cls.__name__} does not accept its parameters: {error}") from error
        if cls.__name__ == "ImageFolder":
            cls, given = image_folder(cls), {**given, "loader": opened}
        try:
            return cls(**given)
        except ModuleNotFoundError as error:
            raise DataError(f"{cls.__name__} is read with the package {error.name}, which is not installed") from error
        except DataError:
            raise
        except Exception as error:  # what is missing or damaged makes the readers fail in every possible way
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise DataError(missing_files(cls, self._root(), reason)) from error


_DRAWN = frozenset({"FakeData"})
"""Data sets that draw pictures from torch's global generator, which threads share."""


def _pictures(parts: Mapping[str, Any], made: PicturePreparation, called: str, channels: int | None) -> TensorColumn:
    """All pictures of all parts: the arrays that the data set already is, or one after the other."""
    arrays = [_array(getattr(part, "data", None), len(part)) for part in parts.values()]
    found = [each for each in arrays if each is not None and channels in {None, each.shape[1]}]
    if len(found) == len(parts) and not made.steps and len({each.shape[1:] for each in found}) == 1:
        return TensorColumn(torch.cat(found) if len(found) > 1 else found[0])
    empty = next((name for name, part in parts.items() if not len(part)), None)
    if empty is not None:
        raise DataError(f"{called}{f', {empty}' if empty else ''}: no samples")
    ends = list(itertools.accumulate(len(part) for part in parts.values()))
    describers = [_describer(part, f"{called}, {name}" if name else called) for name, part in parts.items()]
    datasets = list(parts.values())

    def place(position: int) -> tuple[int, int]:
        part = bisect.bisect_right(ends, position)
        return part, position - (ends[part - 1] if part else 0)

    one_at_a_time = threading.Lock() if any(type(each).__name__ in _DRAWN for each in datasets) else nullcontext()

    def read(position: int) -> Any:
        part, row = place(position)
        with one_at_a_time:
            return datasets[part][row][0]

    def described(position: int) -> str:
        part, row = place(position)
        return describers[part](row)

    return stacked(ends[-1], read, made, described, channels)


def _array(data: Any, n_samples: int) -> Tensor | None:
    values = torch.from_numpy(data) if isinstance(data, np.ndarray) else data
    if not isinstance(values, Tensor) or values.dtype != torch.uint8 or len(values) != n_samples:
        return None
    if values.ndim == 3:
        return values.unsqueeze(1).contiguous()
    if values.ndim == 4 and values.shape[3] == 3:
        return values.permute(0, 3, 1, 2).contiguous()
    return values.contiguous() if values.ndim == 4 and values.shape[1] in {1, 3} else None


def _describer(dataset: Any, called: str) -> Callable[[int], str]:
    """What to call the picture at a position: its file, where the data set says which."""
    for attribute in ("samples", "imgs", "_samples", "_image_files", "_images", "images", "filename"):
        files = getattr(dataset, attribute, None)
        if isinstance(files, list) and len(files) == len(dataset):
            return lambda i: f'{called}: "{files[i][0] if isinstance(files[i], tuple) else files[i]}"'
    return lambda i: f"{called}: picture {i}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
