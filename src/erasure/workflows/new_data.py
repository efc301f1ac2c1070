"""What ``erasure new`` has to know of data before it can write a configuration: the source, the model that suits it, the classes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from erasure.errors import ConfigError, DataError, Diagnostic, InvalidParameters, nearest

if TYPE_CHECKING:
    from erasure.data.dataset import Dataset

__all__ = ["SHIPPED", "AskLabel", "DataChoice", "chosen_data", "chosen_from", "refused"]

SHIPPED = ("digits", "breast_cancer")
_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
"""What torchvision reads of a folder of classes."""
_NUMBERS = ("int", "uint", "float", "bool")
_LOOKED_AT = 5000
_TENSORS = {".npz", ".safetensors", ".pt", ".pth"}
_MOLECULES = {
    "bace": "bace.csv",
    "bbbp": "BBBP.csv",
    "clintox": "clintox.csv",
    "hiv": "HIV.csv",
    "muv": "muv.csv",
    "pcba": "pcba.csv",
    "sider": "sider.csv",
    "tox21": "tox21.csv",
    "toxcast": "toxcast_data.csv",
}
"""Sets of MoleculeNet and the files they are published in."""
_DIGITS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)


class AskLabel(Protocol):
    """Chooses the label."""

    def __call__(self, columns: Sequence[str], likely: str = "") -> str:
        """The label among ``columns``: what was given, else the likely one, else what a person says."""
        ...


@dataclass(frozen=True, kw_only=True)
class DataChoice:
    """Data as a configuration names it.

    Args:
        name: Name of the experiment.
        source: The source with its parameters.
        comment: One sentence on the data.
        model: The model with its parameters.
        kind: What samples are; each kind takes other settings.
        epochs: Epochs that suit it.
        train: Share of the samples to train on.
        n_samples: How many samples there are.
        classes: The classes as a splitter takes them, by number or by name, and how many samples each has.
        notices: What was left out of the inputs, and why: one sentence each.
    """

    name: str
    source: dict[str, Any]
    comment: str
    model: str | dict[str, Any]
    kind: Literal["table", "pictures", "text", "graphs"]
    epochs: int
    train: float
    n_samples: int
    classes: Mapping[int | str, int]
    notices: tuple[str, ...] = ()


def refused(message: str, hint: str = "") -> ConfigError:
    """An answer that cannot be used."""
    return ConfigError([Diagnostic(message, hint=hint, kind="data")])


def chosen_data(data: str, ask_label: AskLabel) -> DataChoice:
    """The data called ``data``: shipped, a table, named tensors, or a folder of pictures, of graphs or of a Hugging Face data set.

    Args:
        data: ``digits``, ``breast_cancer`` or a path.
        ask_label: Chooses the label among the columns of a table or of a Hugging Face data set, or among named tensors.

    Raises:
        ConfigError: If there is no such data, or no classifier can learn from it.
    """
    if data == "digits":
        return _shipped("digits", "1,797 handwritten digits of 8x8 pixels", "CNN", "pictures", 25, 0.5, _DIGITS)
    if data == "breast_cancer":
        return _shipped("breast_cancer", "569 patients, 30 measurements each", _mlp(64, 64), "table", 40, 0.8, (212, 357))
    path = Path(data).expanduser()
    if path.is_dir():
        return _folder(path, ask_label)
    if path.is_file() and path.suffix.casefold() in _TENSORS:
        from erasure.workflows.new_tensors import chosen_tensors

        return chosen_tensors(path, ask_label)
    if path.is_file():
        return _molecules(path) or _table(path, ask_label)
    raise refused(
        f'there is no data "{data}"; give {", ".join(SHIPPED)}, a table, a file of tensors or a folder', nearest(data, SHIPPED)
    )


def _shipped(name: str, comment: str, model: Any, kind: Any, epochs: int, train: float, sizes: Sequence[int]) -> DataChoice:
    return DataChoice(
        name=name,
        source={"class": "Sklearn", "parameters": {"name": name}},
        comment=f"{comment}, shipped with scikit-learn",
        model=model,
        kind=kind,
        epochs=epochs,
        train=train,
        n_samples=sum(sizes),
        classes=dict(enumerate(sizes)),
    )


def _mlp(*widths: int) -> dict[str, Any]:
    return {"class": "MLP", "parameters": {"hidden_sizes": list(widths)}}


def chosen_from(name: str, parameters: Mapping[str, Any], comment: str, notices: Sequence[str] = ()) -> DataChoice:
    """Data as its own source reads it, so that what is written here is what a run sees.

    Args:
        name: The source, as a configuration names it.
        parameters: Its parameters.
        comment: What the data is, in a few words behind the number of samples.
        notices: What has been left out.

    Raises:
        ConfigError: If the source refuses it, or no classifier can learn from it.
    """
    from erasure.config.slots import SLOTS
    from erasure.registry.lookup import Registry

    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            source: Any = Registry().resolve(name, SLOTS["source"]()).cls(**parameters)
            data: Dataset = source.load()
    except (DataError, InvalidParameters) as error:
        raise refused(str(error)) from error
    if data.task == "multilabel":
        raise refused("each sample has several labels; begin with a configuration that has them, such as configs/bace.jsonc")
    counts = data.y.long().bincount(minlength=data.n_classes).tolist()
    called: Sequence[int | str] = data.class_names or range(len(counts))
    classes = {each: count for each, count in zip(called, counts, strict=True) if count}
    if len(classes) < 2:
        raise refused(f"{comment}: all samples are of one class; a classifier needs two")
    kind, model, epochs = _suited(data)
    if name == "TensorFile" and kind == "text":
        notices = (
            *notices,
            'whole numbers are taken for ids of tokens; add "modality": "table" to the source if they are measurements',
        )
    return DataChoice(
        name=data.name,
        source={"class": name, "parameters": dict(parameters)},
        comment=f"{len(data.y):,} {comment}, {len(classes)} classes",
        model=model,
        kind=kind,
        epochs=epochs,
        train=0.8,
        n_samples=len(data.y),
        classes=classes,
        notices=(*notices, *dict.fromkeys(str(each.message) for each in said)),
    )


def _suited(data: Dataset) -> tuple[Literal["table", "pictures", "text", "graphs"], Any, int]:
    """What samples are, a small model for them, and how many epochs it takes."""
    if data.modality == "image":
        return "pictures", "CNN", 20
    if data.modality == "graph":
        return "graphs", {"class": "GNN", "parameters": {"conv": "gin"}}, 50
    if data.modality == "text":
        import torch

        largest = max(int(data.x.gather(ids).max()) for ids in torch.split(torch.arange(len(data.x)), 1024))
        n_tokens = max(30_000, largest + 1)  # what HuggingFace numbers words with, and what is in a file of ids
        return "text", {"class": "SmallTransformer", "parameters": {"n_tokens": n_tokens, "width": 32, "n_layers": 1}}, 6
    return "table", _mlp(64, 64), 40


def _folder(path: Path, ask_label: AskLabel) -> DataChoice:
    edges = sorted(path.glob("*_A.txt*")) + sorted(path.glob("raw/*_A.txt*"))
    if edges:
        return _graphs(path, edges[0].name.partition("_A.txt")[0])
    if any((path / each).exists() for each in ("state.json", "dataset_dict.json", "metadata.csv", "metadata.jsonl")):
        return _hugging_face(path, ask_label)
    names = [name for _, _, names in os.walk(path) for name in names if not name.startswith(".")]
    if not any(Path(name).suffix.casefold() in _PICTURES for name in names) and any(map(_is_data_file, names)):
        return _hugging_face(path, ask_label)
    return _pictures(path)


def _is_data_file(name: str) -> bool:
    """Whether a file belongs to a data set of Hugging Face; a table by itself is given as such."""
    suffix, stem = Path(name).suffix.casefold(), name.casefold().partition(".")[0]
    return suffix in {".parquet", ".jsonl"} or (suffix in {".csv", ".json"} and stem.startswith(("train", "test", "validation")))


def _pictures(path: Path) -> DataChoice:
    classes = sorted(each for each in path.iterdir() if each.is_dir() and not each.name.startswith((".", "__MACOSX")))
    counts: dict[int | str, int] = {
        each.name: sum(file.suffix.casefold() in _PICTURES for file in each.rglob("*")) for each in classes
    }
    if len(counts) < 2 or not all(counts.values()):
        empty = [str(name) for name, count in counts.items() if not count]
        found = f"without pictures: {', '.join(empty[:5])}" if empty else f"found {len(counts)}"
        raise refused(f'"{path}" must hold one folder of pictures for each of two or more classes; {found}')
    from erasure.data.reading.torchvision_files import check_classes

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        try:
            check_classes([str(name) for name in counts], path)
        except DataError as error:
            raise refused(str(error)) from error
    parameters = {"dataset": "ImageFolder", "root": str(path), "transforms": ["Resize((32, 32))"]}
    return DataChoice(
        name=path.resolve().name,
        source={"class": "TorchVision", "parameters": parameters},
        comment=f"{sum(counts.values()):,} pictures of {len(counts)} classes, all resized to 32x32",
        model="CNN",
        kind="pictures",
        epochs=20,
        train=0.8,
        n_samples=sum(counts.values()),
        classes=counts,
        notices=tuple(str(each.message) for each in said),
    )


def _graphs(path: Path, name: str) -> DataChoice:
    """A collection of the TU benchmark, in ROOT/NAME/raw; ``path`` is ROOT/NAME or its folder of raw files."""
    path = path.resolve() if path.name in {"", ".."} else path
    home = path.parent if path.name == "raw" else path
    if not list((home / "raw").glob(f"{name}_A.txt*")) or home.name != name:
        raise refused(
            f'"{path}" holds the collection of graphs {name}, which is read from a folder {name}/raw',
            f"move {name}_A.txt and the files with it into {name}/raw and give the folder {name}",
        )
    parameters = {"name": name, "root": str(home.parent), "download": False}
    return chosen_from("TUDataset", parameters, "graphs of the TU benchmark")


def _molecules(path: Path) -> DataChoice | None:
    """A file of MoleculeNet in ROOT/name/raw, or None if it is another file."""
    known = {file: name for name, file in _MOLECULES.items()}
    name = known.get(path.name.removesuffix(".gz"))
    if name is None or path.resolve().parent.name != "raw" or path.resolve().parent.parent.name != name:
        return None
    parameters = {"name": name, "root": os.path.relpath(path.resolve().parents[2]), "download": False}
    return chosen_from("MoleculeNet", parameters, "molecules")


def _hugging_face(path: Path, ask_label: AskLabel) -> DataChoice:
    """A data set that the library ``datasets`` reads from a folder."""
    from erasure.data.reading.hugging_face_files import read_folder
    from erasure.workflows.new_tables import is_prose

    path = path.resolve() if path.name in {"", ".."} else path
    try:
        first = next(iter(read_folder(path, None).values()))
        features = dict(first.features)
    except DataError as error:
        raise refused(str(error)) from error
    label = ask_label(list(features))
    if label not in features:
        raise refused(f'"{path}" has no column "{label}"; there are {", ".join(features)}', nearest(label, features))
    parameters: dict[str, Any] = {"path": str(path), "label": label}
    inputs = {name: feature for name, feature in features.items() if name != label}
    pictures = [name for name, feature in inputs.items() if type(feature).__name__ == "Image"]
    texts = [name for name, feature in inputs.items() if getattr(feature, "dtype", "") in {"string", "large_string"}]
    chosen, what = (pictures[:1], "pictures") if pictures else (texts, "texts")
    numbers = [name for name, feature in inputs.items() if str(getattr(feature, "dtype", "")).startswith(_NUMBERS)]
    words = {name: [each for each in first[:_LOOKED_AT][name] if each is not None] for name in texts} if not pictures else {}
    if numbers and words and not any(map(is_prose, words.values())):
        # Words beside numbers that repeat are categories of a table; others say nothing by themselves.
        categories = [name for name, values in words.items() if len(set(values)) <= max(2, len(values) // 2)]
        parameters["categorical"] = categories
        numbers = [name for name in numbers if not _counts_rows(first[:_LOOKED_AT][name])]
        chosen, what = [name for name in inputs if name in {*numbers, *categories}], "a table of numbers and categories"
    notices = []
    if chosen:
        parameters["columns"] = chosen
        left_out = [name for name in inputs if name not in chosen]
        notices += [f"the columns {', '.join(left_out)} are left out: the inputs are {what}"] if left_out else []
    if pictures:
        parameters["transforms"] = ["Resize((32, 32))"]
    found = chosen_from("HuggingFace", parameters, what if chosen and "categorical" not in parameters else "rows", notices)
    return replace(found, comment=f"{found.comment}, all resized to 32x32") if pictures else found


def _counts_rows(values: Sequence[Any]) -> bool:
    return isinstance(values[0], int) and values[0] in {0, 1} and list(values) == list(range(values[0], values[0] + len(values)))


def _table(path: Path, ask_label: AskLabel) -> DataChoice:
    from erasure.workflows.new_tables import chosen_table

    return chosen_table(path, ask_label)
