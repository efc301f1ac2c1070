"""Upstream's sources, splitters and preprocessing steps: the last parts of their paths to our components."""

from __future__ import annotations

from typing import Any

from erasure.registry.derived import Among, ChosenValue, Counts, Joined, MovedBack
from erasure.registry.upstream_alias import Alias

__all__ = ["SOURCES", "SPLITTERS", "STEPS"]

_SEEDED = "the draw follows split_seed or else globals.seed (upstream's shuffles follow no seed)"
SPLITTERS: dict[str, Alias] = {
    "DataSplitterPercentage": Alias(kind="splitter", target="Percentage", fault=_SEEDED),
    "DataSplitterPercentageStratified": Alias(kind="splitter", target="StratifiedPercentage", fault=_SEEDED),
    "DataSplitterClass": Alias(kind="splitter", target="Class", rename={"label": "labels"}),
    "DataSplitterNSamples": Alias(kind="splitter", target="NSamples", fault=_SEEDED),
    "DataSplitterList": Alias(kind="splitter", target="List"),
    "DataSplitterByZ": Alias(kind="splitter", target="ByZ", rename={"z_label": "z_labels"}),
    "DataSplitterByZList": Alias(kind="splitter", target="ByZ", rename={"z_label": "z_labels"}),
    "DataSplitterAnyZisIn": Alias(kind="splitter", target="ByZ", rename={"z_label": "z_labels"}),
    "DataSplitterAnyZisInRange": Alias(kind="splitter", target="ZRange"),
    "DataSplitterConcat": Alias(kind="splitter", target="Concat"),
}

_TORCHVISION: dict[str, Any] = {
    "kind": "source",
    "target": "TorchVision",
    "rename": {"path": "dataset", "transform": "transforms", "classes": "n_classes", "root_path": "root"},
    "ignored": {"label_column": "labels are found by the class"},
}
_STANDARDIZED = "tables are standardised by the training partition; data.standardize changes that"
_HUGGING_FACE: dict[str, Any] = {
    "kind": "source",
    "target": "HuggingFace",
    "rename": {"data_columns": "columns", "classes": "n_classes"},
    "derived": {"encode": Among("to_encode", "data_columns", "label")},
    "fault": "codes follow the sorted values (upstream's order changes from process to process)",
}
_FROM_HUB = {"download": True, "column_order": "file", "encode_numbers": True}
_TOP_OF_SPOTIFY = Counts((("keep_top_k", "label", 10), ("keep_top_k_artist", "artists", None)))
SOURCES: dict[str, Alias] = {
    "TVDataSource.TVDataSource": Alias(**_TORCHVISION, defaults={"download": True}),
    **{
        path: Alias(
            **_TORCHVISION
            | {
                "ignored": _TORCHVISION["ignored"]
                | {
                    "target_type": "attributes are learned, the identity is the group",
                    "label_columns": "the step that reads the labels says which attributes they are",
                }
            },
            defaults={"download": True, "dataset": "CelebA"},
        )
        for path in ("TVDataSource.TVDataSourceCelebA", "TVDataSourceCelebA.TVDataSourceCelebA")
    },
    **{
        path: Alias(
            **_TORCHVISION
            | {
                "rename": {name: ours for name, ours in _TORCHVISION["rename"].items() if name != "transform"},
                "ignored": _TORCHVISION["ignored"] | {"transform": "pictures of this source are always resized to 224×224"},
            },
            defaults={"download": True, "dataset": "CIFAR100", "transforms": ["Resize((224,224))", "ToTensor"]},
        )
        for path in ("TVDataSource.TVDataSourceCifar100", "TVDataSourceCifar100.TVDataSourceCifar100")
    },
    "TorchFileDataSource.TorchFileDataSource": Alias(kind="source", target="TensorFile"),
    "TorchGeometricDataSource.TorchGeometricDataSource": Alias(
        kind="source",
        target="GraphDataset",
        rename={"datasource": "dataset"},
        note="codes of atoms are numbers, as upstream; MoleculeNet makes them one-hot",
    ),
    "FileDataSource.CSVDataSource": Alias(
        kind="source",
        target="TableFile",
        rename={"data_columns": "features", "label_columns": "label"},
        defaults={"label": "targets", "index_column": 0},
    ),
    "HFDataSource.HFDataSource": Alias(**_HUGGING_FACE, defaults=_FROM_HUB),
    "HFDataSource.IMDBHFDataSource": Alias(**_HUGGING_FACE, defaults=_FROM_HUB | {"splits": ["train", "test"]}),
    "HFDataSource.SpotifyHFDataSource": Alias(
        **_HUGGING_FACE
        | {
            "rename": {"classes": "n_classes"},
            "fault": "codes follow the sorted values (upstream's follow the order of the rows)",
            "derived": _HUGGING_FACE["derived"]
            | {"columns": MovedBack("data_columns", (("artists",), "to_normalize")), "keep_most_frequent": _TOP_OF_SPOTIFY},
        },
        defaults={"download": True},
        ignored={"to_normalize": _STANDARDIZED},
        note="a row of several artists counts as an artist of its own (upstream drops it)",
    ),
    "UCIRepositoryDataSource.UCIRepositoryDataSource": Alias(
        kind="source",
        target="UCI",
        rename={"data_columns": "features"},
        derived={"encode": Among("to_encode", "data_columns", "label")},
        defaults={"download": True},
    ),
    "UCIRepositoryDataSource.UCI_Adult_DataSource": Alias(
        kind="source",
        target="UCI",
        rename={"data_columns": "features"},
        derived={"categorical": Among("to_encode", "data_columns", "label")},
        defaults={
            "id": 2,
            "label": "income",
            "label_strip": ".",
            "keep_values": {"native-country": ["United-States"]},
            "missing_is_other": True,
            "missing": "impute",
            "download": True,
        },
        note="all columns are standardised by the training partition (upstream: numbers only, by the whole table)",
    ),
    "TorchVisionCustomSource.TorchVisionCustomSource": Alias(
        kind="source",
        target="ImageTable",
        rename={"transform": "transforms"},
        derived={
            "path": Joined("path", "file_name"),
            "channels": ChosenValue("RGB", {"true": 3, "false": 1}, "true"),
        },
    ),
}

_FLAGS = {"process_X": "x", "process_y": "y", "process_z": "z"}


def _step(target: str, **facts: Any) -> Alias:
    return Alias(kind="step", target=target, **facts)


STEPS: dict[str, Alias] = {
    "preprocess.Encode": _step("Encode", rename=_FLAGS, note="codes follow the sorted values"),
    "preprocess.ListToTensor": _step("ListToTensor", rename=_FLAGS),
    "preprocess.RemoveCharacter": _step("RemoveCharacter", rename=_FLAGS),
    "preprocess.Add": _step("Add", rename=_FLAGS),
    "preprocess.StringToList": _step("ParseLists", rename=_FLAGS),
    "reshape_x_z.reshape_x_z": _step("MoveInputs", rename={"keep_as_x": "keep", "move_to_z": "move"}),
    "reshape_y_z.reshape_y_z": _step("MoveLabels", rename={"keep_as_y": "keep", "move_to_z": "move"}),
    "reshape_y_z.reshape_y_z_legacy": _step("PickLabels", rename={"keep_as_y": "keep", "move_to_z": "move"}),
    "reshape_y_z.copy_y_z": _step("CopyLabels"),
    "add_z_label.StringContain": _step("ContainsText"),
    "transform_z.PatternMatch": _step("MatchPatterns"),
    "unify_string_columns.UnifyStringColumns": _step("JoinColumns", note="texts are joined by spaces"),
    "tokenize_text.TokenizeX": _step(
        "Tokenize",
        ignored={"max_length": "the tokenizer says how long texts are"},
        note="the mask comes along with the token ids",
    ),
    "tokenize_text.TokenizerWrapper": Alias(
        kind="tokenizer",
        target="Pretrained",
        rename={"tokenizer": "name_or_path"},
        defaults={"download": True},
        ignored={
            "padding": "texts are filled up to max_length",
            "truncation": "texts are cut at max_length",
            "return_tensors": "tokens are tensors",
        },
    ),
    "image_to_tensor.ImageToTensorPreprocess": _step("ImageToTensor"),
    "dataset_specific.torchvision.cifar100_to_20.CIFAR100preprocess": _step(
        "CoarseClasses",
        ignored={"dim": "the coarse classes are known by the name of each class", "method": "the coarse classes are known"},
    ),
    "dataset_specific.celeba_labels.Celeba_labels": _step("CelebALabels", rename={"label_columns": "columns"}),
    "dataset_specific.celeba_labels.Celeba_multilabel": _step(
        "CelebALabels", rename={"label_columns": "columns"}, defaults={"multilabel": True}
    ),
    "dataset_specific.UCIRepository.IRIS_preprocess.IRISpreprocess": _step(
        "Encode", defaults={"y": True, "values": ["Iris-setosa", "Iris-versicolor", "Iris-virginica"]}
    ),
}
