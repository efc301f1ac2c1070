"""What somebody probably meant by a name that is no component: a file, a known data set, a network or a metric of another library."""

from __future__ import annotations

import json
import re

__all__ = ["meant"]

_READERS = {
    "TableFile": (".csv", ".tsv", ".parquet", ".csv.gz", ".tsv.gz"),
    "TensorFile": (".npz", ".pt", ".pth", ".safetensors"),
    "HuggingFace": (".jsonl", ".json", ".arrow"),
}
_SKLEARN_DATA = {"iris", "digits", "wine", "breast_cancer"}
_TORCHVISION_DATA = (
    "MNIST", "FashionMNIST", "KMNIST", "EMNIST", "QMNIST", "USPS", "SVHN", "STL10", "CIFAR10", "CIFAR100", "CelebA",
    "Food101", "Flowers102", "Country211", "GTSRB", "EuroSAT", "ImageFolder",
)  # fmt: skip
_NETWORKS = re.compile(
    r"(wide_|se_)?(resnet|resnext|vgg|densenet|mobilenet|efficientnet|alexnet|googlenet|inception|squeezenet|shufflenet|convnext|regnet|swin|"
    r"vit)([_-]?\w*)",
    re.IGNORECASE,
)
_ENCODERS = re.compile(r"(distil)?(bert|roberta|deberta|electra)([-_].*)?", re.IGNORECASE)
_METRICS = re.compile(
    r"(sklearn\.metrics\.)?((f1|precision|recall|accuracy|balanced_accuracy|roc_auc|average_precision|jaccard|fbeta|cohen_kappa|zero_one)"
    r"(_score|_loss)|log_loss|matthews_corrcoef|hamming_loss|brier_score_loss|top_k_accuracy_score)"
)


def meant(kind: str, name: str) -> str:
    """What to write instead of ``name`` where a component of this kind is expected; empty if nothing is known.

    Example:
        >>> meant("measure", "f1_score")
        'it is a metric of scikit-learn: {"class": "SklearnMetric", "parameters": {"function": "f1_score"}}'
    """
    if kind == "source":
        return _source(name)
    if kind == "model" and _NETWORKS.fullmatch(name):
        known = "resnet18" if name.casefold() == "resnet" else name.casefold()
        return f"networks of torchvision are written {_written('TorchVisionModel', name=known)}, those of timm with TimmModel"
    if kind == "model" and _ENCODERS.fullmatch(name):
        return f"encoders of Hugging Face are written {_written('TextEncoder', name_or_path=name)}"
    if kind == "measure" and (metric := _METRICS.fullmatch(name)):
        return f"it is a metric of scikit-learn: {_written('SklearnMetric', function=metric[2])}"
    return ""


def _source(name: str) -> str:
    folded = name.casefold()
    for reader, suffixes in _READERS.items():
        if folded.endswith(suffixes):
            label = {"label": "COLUMN"} if reader in {"TableFile", "HuggingFace"} else {}
            return f"a file is read by a source: {_written(reader, path=name, **label)}"
    if folded in _SKLEARN_DATA:
        return f"data of scikit-learn are written {_written('Sklearn', name=folded)}"
    known = {each.casefold(): each for each in _TORCHVISION_DATA}
    if folded.replace("-", "") in known:
        return f"data sets of torchvision are written {_written('TorchVision', dataset=known[folded.replace('-', '')])}"
    return ""


def _written(component: str, **parameters: str) -> str:
    return json.dumps({"class": component, "parameters": parameters})
