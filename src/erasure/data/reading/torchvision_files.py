"""Where torchvision's data sets keep their files, and what to say when they are not there."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from erasure.errors import DataError

__all__ = ["check_classes", "data_folder", "image_folder", "missing_files", "opened"]

_FOLDERS = {
    "Caltech101": "caltech101",
    "Caltech256": "caltech256",
    "CLEVRClassification": "clevr",
    "Country211": "country211",
    "DTD": "dtd",
    "EuroSAT": "eurosat",
    "FER2013": "fer2013",
    "FGVCAircraft": "fgvc-aircraft-2013b",
    "Flowers102": "flowers-102",
    "Food101": "food-101",
    "GTSRB": "gtsrb",
    "OxfordIIITPet": "oxford-iiit-pet",
    "PCAM": "pcam",
    "RenderedSST2": "rendered-sst2",
    "StanfordCars": "stanford_cars",
    "SUN397": "SUN397",
}
"""Folder of a data set below its root, where the class does not say so itself."""

_SHOWN = 4


def data_folder(cls: Any, root: Path) -> Path:
    """The folder that has the files of a data set and, as far as is known, no others."""
    if hasattr(cls, "resources"):
        return root / str(cls.__name__)
    folder = getattr(cls, "base_folder", None) or _FOLDERS.get(cls.__name__)
    return root / folder if isinstance(folder, str) else root


def missing_files(cls: Any, root: Path, reason: str = "") -> str:
    """One message that says which files are expected where, and how to get them."""
    folder = data_folder(cls, root)
    expected = _expected(cls, folder)
    absent = [file for file in expected if not file.exists()]
    if absent:
        shown = ", ".join(str(file.relative_to(folder)) for file in absent[:_SHOWN]) + (", …" if len(absent) > _SHOWN else "")
        message = f'{cls.__name__}: expected {shown} in the folder "{folder}"'
    elif reason:
        message = f'{cls.__name__}: its files in the folder "{folder}" cannot be read ({reason})'
    else:
        message = f'{cls.__name__}: expected its files in the folder "{folder}", which has none'
    address = _address(cls)
    origin = f" from {address}" if address else ""
    remedy = f"get them{origin} and unpack them there"
    if absent and reason.startswith(("Error downloading", "<urlopen", "HTTP")):
        return f"{message}, and downloading failed ({reason}); {remedy}"
    return f"{message}; {remedy}" + (", or set download to true" if _downloads(cls) else "")


def _expected(cls: Any, folder: Path) -> list[Path]:
    resources = getattr(cls, "resources", None)
    if isinstance(resources, list) and cls.__name__ != "EMNIST":  # which inherits the list of MNIST
        return [folder / "raw" / Path(str(each[0])).name.removesuffix(".gz") for each in resources]
    listed = [*getattr(cls, "train_list", ()), *getattr(cls, "test_list", ())]
    if listed:
        names = [str(each[0]) for each in listed] + [str(getattr(cls, "meta", {}).get("filename", ""))]
        return [folder / name for name in names if name]
    if cls.__name__ == "CelebA":
        return [folder / str(each[2]) for each in cls.file_list if str(each[2]).endswith(".txt")] + [folder / "img_align_celeba"]
    if cls.__name__ == "SVHN":
        return [folder / str(cls.split_list[part][1]) for part in ("train", "test")]
    return []


def _address(cls: Any) -> str:
    mirrors = getattr(cls, "mirrors", None) or [None]
    found = getattr(cls, "url", None) or getattr(cls, "_URL", None) or mirrors[0]
    return found if isinstance(found, str) else ""


def _downloads(cls: Any) -> bool:
    return any("download" in inspect.signature(each).parameters for each in cls.__mro__[:-1] if "__init__" in vars(each))


@functools.cache
def image_folder(cls: Any) -> Any:
    """``ImageFolder`` without hidden folders and files, which programs leave behind and nobody means as a class."""

    class ImageFolder(cls):  # type: ignore[misc]
        def find_classes(self, directory: str) -> tuple[list[str], dict[str, int]]:
            names = sorted(each.name for each in Path(directory).iterdir() if each.is_dir() and not _is_hidden(each.name))
            if not names:
                raise FileNotFoundError(f'there is no folder of a class in "{directory}"')
            check_classes(names, Path(directory))
            return names, {name: code for code, name in enumerate(names)}

        def make_dataset(self, *args: Any, **kwargs: Any) -> list[tuple[str, int]]:
            found = super().make_dataset(*args, **kwargs)
            return [(file, code) for file, code in found if not _is_hidden(Path(file).relative_to(self.root))]

    return ImageFolder


_PARTS = frozenset({"train", "training", "val", "valid", "validation", "dev", "test", "testing"})


def check_classes(names: Sequence[str], directory: Path) -> None:
    """That folders are classes, and not the parts for training and for testing."""
    parts = [name for name in names if name.casefold() in _PARTS]
    if len(parts) == len(names):
        raise DataError(
            f'"{directory}" holds {" and ".join(parts)}, which are parts of the data and no classes; give one of them as root, such as '
            f'"{directory / parts[-1]}", or move their pictures into one folder for each class'
        )
    unseen = [name for name in parts if not name.casefold().startswith("train")]  # a train may be a vehicle
    if unseen:
        warnings.warn(f'the folder "{unseen[0]}" is read as a class, although it is called like a part of the data', stacklevel=2)


def opened(path: str) -> Any:
    """A picture in colour, as torchvision's own loader gives it.

    Raises:
        ValueError: If it has more than 8 bits a channel, which that loader cuts off.
    """
    from PIL import Image

    with Path(path).open("rb") as stream:
        picture = Image.open(stream)
        if picture.mode.startswith("I") or picture.mode == "F":
            raise ValueError(f"it has more than 8 bits a channel (mode {picture.mode}); convert it to 8 bits")
        return picture.convert("RGB")


def _is_hidden(name: str | Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in Path(name).parts)
