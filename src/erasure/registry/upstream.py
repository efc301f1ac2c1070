"""The vocabulary of the configuration format that researchers already have, as a table of data.

Source: aiim-research/ERASURE at d5bbbe5. Each dotted path maps to one of our components, with its parameters renamed and the
defaults its author had in mind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from erasure.registry.derived import Among, Chosen, Counts, Derived, Joined, Lifted, Products, Repeated

__all__ = ["SECTIONS", "UPSTREAM", "Alias"]


@dataclass(frozen=True, kw_only=True)
class Alias:
    """How one of upstream's classes is understood.

    Args:
        kind: The slot it belongs to.
        target: Registered name of our component; empty if the node needs no component here.
        rename: Upstream's parameter to ours.
        defaults: Values that upstream assumes where we assume something else, by our names.
        ignored: Parameters without effect, and why.
        wrap: Parameter that puts the component inside another one: parameter to (registered name, its parameter).
        note: One sentence on what we do differently, said whenever the name is used.
        fault: One sentence on a fault of the reference implementation that is not repeated, said where a file is explained.
        dropped: Why the node is left out, if it is.
        spliced: Parameter that holds a list of nodes which take this node's place.
        derived: Parameter of ours to the rule that makes it of several of upstream's.
    """

    kind: str
    target: str = ""
    rename: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    wrap: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    note: str = ""
    fault: str = ""
    dropped: str = ""
    spliced: str = ""
    derived: Mapping[str, Derived] = field(default_factory=dict)

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Upstream's parameters that are not ours by name."""
        return (*self.rename, *self.ignored, *self.wrap, *(name for rule in self.derived.values() for name in rule.takes))


_ALWAYS_CACHED = "results are cached by their content; globals.cached turns that off"
_NO_TRAINING = "the method takes no gradient steps"
_PREDICTOR = Alias(
    kind="predictor",
    target="",
    ignored={
        "cached": _ALWAYS_CACHED,
        "alias": "the store knows models by their content",
        "early_stopping_threshold": "all epochs are trained (upstream watches the training loss); give validation_set and patience",
    },
    fault="weights start as PyTorch initialises them (upstream: Xavier, with biases of 0.01)",
)

SECTIONS: dict[str, Alias] = {
    "DatasetManager": Alias(
        kind="data",
        target="",
        rename={"DataSource": "data_source"},
        fault="training shuffles each epoch and keeps the last short batch (upstream does neither)",
    ),
    "TorchModel": _PREDICTOR,
    "TorchModelMultilabel": _PREDICTOR,
    "Evaluator": Alias(
        kind="evaluator",
        target="",
        fault="a measure that fails is a failed row, and the exit code says so (upstream warns and goes on)",
    ),
}
"""Sections of a configuration by the last part of their class path."""

_BOTH = {"ref_data_retain": "retain", "ref_data_forget": "forget"}
_RETAIN = {"ref_data": "retain", "ref_data_retain": "retain"}
_FORGET = {"ref_data": "forget", "ref_data_forget": "forget"}
_INSIDE = {
    "last_trainable_layers": ("LastLayers", "n_layers"),
    "mask_path": ("Masked", "mask_file"),
    "model_mask_path": ("Masked", "mask_file"),
}


_FREED = "frozen layers and masks are undone afterwards (upstream leaves them to later steps and measures)"


def _adam(**defaults: Any) -> dict[str, Any]:
    """Upstream's optimizer where a file names none."""
    return {"optimizer": {"class": "torch.optim.Adam", "parameters": {"lr": 0.001}}, **defaults}


def _unlearner(target: str, **facts: Any) -> Alias:
    return Alias(kind="unlearner", target=target, **facts)


_UNLEARNERS: dict[str, Alias] = {
    "GoldModel.GoldModel": _unlearner(
        "GoldModel",
        rename={"training_set": "retain"},
        ignored={
            "cached": _ALWAYS_CACHED,
            "predictor": "gold is trained by the predictor of the configuration",
            "data": "gold is trained on the data of the configuration",
            "ref_data": "ignored upstream too",
            "train_data": "ignored upstream too",
        },
    ),
    "Finetuning.Finetuning": _unlearner("Finetuning", rename=_RETAIN, defaults=_adam(epochs=5), wrap=_INSIDE, fault=_FREED),
    "eu_k.eu_k": _unlearner(
        "EU-k",
        rename={**_RETAIN, "last_trainable_layers": "k"},
        defaults=_adam(epochs=5, schedule=None, max_grad_norm=None),
        note="layers are counted and reset one by one, also inside blocks (upstream resets top-level children only)",
    ),
    "NegGrad.NegGrad": _unlearner("NegGrad", rename=_FORGET, defaults=_adam(epochs=5), wrap=_INSIDE, fault=_FREED),
    "AdvancedNegGrad.AdvancedNegGrad": _unlearner(
        "AdvancedNegGrad", rename=_BOTH, defaults=_adam(epochs=5), wrap=_INSIDE, fault=_FREED
    ),
    "UNSIR.UNSIR": _unlearner(
        "SampleUNSIR",
        rename=_BOTH,
        defaults=_adam(epochs=1, noise_lr=0.01, repair_epochs=0, batch_size=None),
        wrap=_INSIDE,
        note="the impairing phase alone, as upstream; the noise keeps to the range of the inputs",
    ),
    "BadTeaching.BadTeaching": _unlearner(
        "BadTeaching",
        rename={**_BOTH, "KL_temperature": "temperature"},
        defaults=_adam(epochs=5, retain_fraction=1.0, batch_size=None),
        ignored={
            "bad_teacher": "the bad teacher is a randomly initialised network",
            "transform": "inputs are transformed by the data",
        },
        wrap=_INSIDE,
    ),
    "Scrub.Scrub": _unlearner(
        "SCRUB",
        rename={**_BOTH, "T": "temperature"},
        defaults=_adam(epochs=1, temperature=4.0, alpha=1.0, gamma=1.0),
        wrap=_INSIDE,
        note="the teacher is a real copy (upstream's shares the student's weights), and the maximising pass comes first, as published",
    ),
    "SelectiveSynapticDampening.SelectiveSynapticDampening": _unlearner(
        "SSD",
        rename={**_BOTH, "ref_data_train": "train"},
        defaults={"dampening_constant": 0.1, "selection_weighting": 10.0},
        ignored={"optimizer": _NO_TRAINING, "lr": _NO_TRAINING, "epochs": _NO_TRAINING},
    ),
    "FisherForgetting.FisherForgetting": _unlearner(
        "FisherForgetting",
        rename={**_RETAIN, "ff_epochs": "max_samples"},
        defaults={"alpha": 1e-6, "max_samples": 1000},
        ignored={"task": "the data says how labels are read", "epochs": _NO_TRAINING, "optimizer": _NO_TRAINING},
        note="alpha is used (upstream always takes 3e-6), and the samples are drawn at random",
    ),
    "SaliencyMapGeneration.SaliencyMapGeneration": _unlearner(
        "SaliencyMapGeneration",
        rename={**_FORGET, "treshold": "fraction", "threshold": "fraction"},
        ignored={"optimizer": _NO_TRAINING, "epochs": _NO_TRAINING},
    ),
    "SuccessiveRandomLabels.SuccessiveRandomLabels": _unlearner(
        "SuccessiveRandomLabels",
        rename=_BOTH,
        defaults=_adam(epochs=5, order="sequential"),
        ignored={"task": "the data says how labels are read"},
        wrap=_INSIDE,
        fault=_FREED,
    ),
    "composite.Cascade": _unlearner("Cascade", rename={"sub_unlearner": "steps"}),
    "composite.Identity": _unlearner("Identity"),
}

_SEEDED = "the draw follows split_seed or else globals.seed (upstream's shuffles follow no seed)"
_SPLITTERS: dict[str, Alias] = {
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
_TOP_OF_SPOTIFY = Counts((("keep_top_k", "label", 10), ("keep_top_k_artist", "artists", None)))
_SOURCES: dict[str, Alias] = {
    "TVDataSource.TVDataSource": Alias(**_TORCHVISION, defaults={"download": True}),
    **{
        path: Alias(
            **_TORCHVISION
            | {"ignored": _TORCHVISION["ignored"] | {"target_type": "attributes are learned, the identity is the group"}},
            defaults={"download": True, "dataset": "CelebA"},
        )
        for path in ("TVDataSource.TVDataSourceCelebA", "TVDataSourceCelebA.TVDataSourceCelebA")
    },
    **{
        path: Alias(
            **_TORCHVISION, defaults={"download": True, "dataset": "CIFAR100", "transforms": ["Resize((224,224))", "ToTensor"]}
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
    "HFDataSource.HFDataSource": Alias(**_HUGGING_FACE, defaults={"download": True}),
    "HFDataSource.IMDBHFDataSource": Alias(**_HUGGING_FACE, defaults={"download": True, "splits": ["train", "test"]}),
    "HFDataSource.SpotifyHFDataSource": Alias(
        **_HUGGING_FACE | {"derived": _HUGGING_FACE["derived"] | {"keep_most_frequent": _TOP_OF_SPOTIFY}},
        defaults={"download": True},
        ignored={"to_normalize": _STANDARDIZED},
        note="a row of several artists counts as an artist of its own",
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
            "channels": Chosen("RGB", {"true": 3, "false": 1}, "true"),
        },
    ),
}

_ATTACK_MODEL = "n_classes is the number of inputs; the outputs are the classes of the data"
_LAYERS = {"hidden_sizes": Repeated(("hidden_size", 100), ("n_layers", 3))}
_RESNET = {"name": "resnet18", "hidden": 512}


def _classifier(target: str, **defaults: Any) -> Alias:
    return Alias(kind="model", target=target, rename={"n_attrs": "n_classes"}, defaults=defaults)


_MODELS: dict[str, Alias] = {
    "FF.LogisticRegression": Alias(
        kind="model", target="MLP", rename={"n_classes": "n_inputs"}, defaults={"hidden_sizes": []}, note=_ATTACK_MODEL
    ),
    "FF.MIAAttack": Alias(
        kind="model",
        target="MLP",
        rename={"n_classes": "n_inputs"},
        defaults={"hidden_factors": [3.0, 1.5, 0.5]},
        note=_ATTACK_MODEL,
    ),
    "FF.FlexSeqBin": Alias(
        kind="model",
        target="MLP",
        rename={"n_classes": "n_inputs"},
        derived={"hidden_factors": Products(("mult", (2.0, 1.0, 0.5)))},
        note=_ATTACK_MODEL,
    ),
    "gcn.DownstreamGCN": Alias(
        kind="model",
        target="GNN",
        rename={
            "node_features": "n_inputs",
            "num_conv_layers": "layers",
            "num_dense_layers": "dense_layers",
            "conv_booster": "hidden_factor",
            "linear_decay": "dense_decay",
            "pooling": "pool",
        },
        defaults={
            "conv": "gcn",
            "layers": 2,
            "dense_layers": 2,
            "hidden_factor": 2,
            "dense_decay": 2,
            "pool": "mean",
            "batch_norm": False,
        },
        ignored={"batch_size": "the network takes batches of any size"},
    ),
    "classifiers.standard_classifier.IrisNN": Alias(kind="model", target="MLP", defaults={"hidden_sizes": [50, 30]}),
    "classifiers.standard_classifier.AdultNN": Alias(kind="model", target="MLP", derived=_LAYERS),
    "classifiers.standard_classifier.SpotifyNN": Alias(kind="model", target="MLP", derived=_LAYERS),
    "cnns.standardCNN.FashionCNN": Alias(
        kind="model",
        target="CNN",
        defaults={"channels": [32, 64], "hidden_sizes": [600, 120], "paddings": [1, 0], "batch_norm": True, "dropout": 0.25},
    ),
    "cnns.standardCNN.FMNIST_CNN": Alias(kind="model", target="CNN", defaults={"channels": [32, 64], "hidden_sizes": [128]}),
    **{
        f"classifiers.{path}": _classifier("TorchVisionModel", **_RESNET)
        for path in (
            "resnet18_for_celeba.CelebAResNet18",
            "resnet18_for_cifar10.CIFAR10ResNet18",
            "resnet18_for_cifar100.CIFAR100ResNet18",
            "resnet18_for_cifar20.CIFAR20ResNet18",
            "resnet18_for_fairface.FairFaceResNet18",
            "Food101_classifier.Food101ResNet18",
            "Foor101_classifier.Food101ResNet18",
            "Country211_classifier.Country211ResNet18",
        )
    },
    **{
        f"classifiers.{path}": _classifier("TorchVisionModel", **_RESNET | {"name": "resnet50"})
        for path in ("resnet18_for_celeba.CelebAResNet50", "resnet50_for_celeba.CelebAResNet50")
    },
    **{
        f"classifiers.MNIST_classifiers.{name}": _classifier("TorchVisionModel", **_RESNET, stem="small")
        for name in ("MNISTResNet18", "FashionMNISTResNet18")
    },
    **{
        f"classifiers.BERT_classifier.{name}": _classifier("TextEncoder", name_or_path=path, hidden_sizes=[512], download=True)
        for name, path in (
            ("BERTClassifier", "bert-base-uncased"),
            ("DistilBERTClassifier", "distilbert-base-uncased"),
            ("deberta", "microsoft/deberta-base"),
        )
    },
}


def _measure(target: str, **facts: Any) -> Alias:
    return Alias(kind="measure", target=target, **facts)


_MODEL_DISTANCE = _measure(
    "ModelDistance", rename={"ref_data": "partition"}, ignored={"name": "the measure has a name of its own"}
)
_SHADOWS = {
    "attack_in_data": "shadow models learn from the run's own partitions",
    "attack_model": "the attack is fixed",
    "data_out_path": "results are kept in the store",
    "loss_fn": "the attack reads log-odds or posteriors",
}
_N_SHADOWS = {
    "n_shadows": Lifted(
        "shadows",
        ("n_shadows", "n_models"),
        at_least=4,
        multiple_of=2,
        rounding="shadow models come in pairs, at least two",
        others="all else in it has no effect: shadow models follow the predictor's recipe",
    )
}

_MEASURES: dict[str, Alias] = {
    "running.RunTime": _measure("RunTime", fault="time is taken with nothing else switched on (upstream: with tracemalloc)"),
    "running.UnlearnRunner": _measure("", dropped="every unlearner is run before it is measured"),
    "running.ChainOfRunners": _measure("", spliced="runners"),
    "running.TorchFlops": _measure("Flops"),
    "running.PAPI": _measure("HardwareCounters", defaults={"events": ["PAPI_TOT_INS", "PAPI_TOT_CYC", "PAPI_LST_INS"]}),
    "measures.TorchSKLearn": _measure("SklearnMetric", ignored={"task": "the data says how labels are read"}),
    "measures.Accuracy": _measure("Accuracy", ignored={"name": "the measure is called accuracy"}),
    "measures.PartitionInfo": _measure(
        "PartitionInfo", fault="all samples are counted (upstream leaves out the last short batch)"
    ),
    "measures.ForgetSetInfo": _measure("PartitionInfo", defaults={"partition": "forget"}),
    "measures.AUS": _measure("AUS", rename={"forget_part": "forget", "test_part": "test"}),
    "measures.RelearnTime": _measure(
        "RelearnTime",
        rename={"forget_part": "forget"},
        defaults={"count": "epochs", "cap": 100, "alpha": 0.0, "eval_samples": None},
        note="one Adam for all models, whose accuracy is looked at in eval mode (upstream reuses each model's own optimizer)",
    ),
    "measures.AIN": _measure(
        "AIN",
        rename={"forget_part": "forget"},
        defaults={"count": "epochs", "cap": 100, "eval_samples": None},
        ignored={"gold_model": "gold is the configuration's own"},
    ),
    "measures.NoMUS": _measure(
        "NoMUS",
        rename={"l": "utility_weight", "acc_split": "test"},
        fault="the attack looks at the partitions that are named (upstream: always forget and test)",
    ),
    "distances.ModelDistance": _MODEL_DISTANCE,
    "weights.ModelDistance": _MODEL_DISTANCE,
    "activations.ActivationDistance": _measure(
        "LegacyActivationDistance",
        rename={"forget_part": "partition"},
        ignored={"function": "the formula is fixed", "name": "the measure has a name of its own"},
    ),
    "measures.SaveValues": _measure("", dropped="results are always written, as valid files, to the directory given by --output"),
    "MIA.umia.Attack": _measure(
        "UMIA",
        rename={"forget_part": "forget", "test_part": "test"},
        note="5 splits with a tenth held out, and unseen samples of the forgotten classes, as published (upstream trains on a fifth)",
    ),
    "MIA.mia.Attack": _measure("ForgettingRate", rename={"forget_part": "forget"}, ignored=_SHADOWS, derived=_N_SHADOWS),
    **{
        path: _measure(
            "LiRA",
            rename={"forget_part": "forget"},
            ignored=_SHADOWS,
            derived=_N_SHADOWS,
            note="the likelihood-ratio attack as published: area under the curve and rates (upstream: a mean ratio of densities of losses)",
        )
        for path in ("MIA.lira.Attack", "MIA.lira_revised.Attack")
    },
}

_FLAGS = {"process_X": "x", "process_y": "y", "process_z": "z"}


def _step(target: str, **facts: Any) -> Alias:
    return Alias(kind="step", target=target, **facts)


_STEPS: dict[str, Alias] = {
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

UPSTREAM: dict[str, Alias] = {
    **{f"erasure.data.data_sources.{path}": alias for path, alias in _SOURCES.items()},
    **{f"erasure.data.datasets.DataSplitter.{path}": alias for path, alias in _SPLITTERS.items()},
    **{f"erasure.data.preprocessing.{path}": alias for path, alias in _STEPS.items()},
    **{f"erasure.model.{path}": alias for path, alias in _MODELS.items()},
    **{f"erasure.unlearners.{path}": alias for path, alias in _UNLEARNERS.items()},
    **{f"erasure.evaluations.{path}": alias for path, alias in _MEASURES.items()},
}
"""Upstream's full dotted path to what we make of it."""
