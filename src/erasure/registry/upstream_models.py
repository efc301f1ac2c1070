"""Upstream's networks: the last parts of their paths to our components."""

from __future__ import annotations

from typing import Any

from erasure.registry.derived import Products, RepeatedValue
from erasure.registry.upstream_alias import Alias

__all__ = ["MODELS"]

_ATTACK_MODEL = "n_classes is the number of inputs; the outputs are the classes of the data"
_LAYERS = {"hidden_sizes": RepeatedValue(("hidden_size", 100), ("n_layers", 3))}
_RESNET = {"name": "resnet18", "hidden": 512}
_WIDTH_OF_DATA = {"inputsize": "the number of inputs is that of the data"}


def _classifier(target: str, **defaults: Any) -> Alias:
    return Alias(kind="model", target=target, rename={"n_attrs": "n_classes"}, defaults=defaults)


def _perceptron(**facts: Any) -> Alias:
    return Alias(kind="model", target="MLP", ignored=_WIDTH_OF_DATA, **facts)


MODELS: dict[str, Alias] = {
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
    "classifiers.standard_classifier.IrisNN": _perceptron(defaults={"hidden_sizes": [50, 30]}),
    "classifiers.standard_classifier.AdultNN": _perceptron(derived=_LAYERS),
    "classifiers.standard_classifier.SpotifyNN": _perceptron(derived=_LAYERS),
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
            "resnet18_for_celeba.CelebAResNet18_logits",
            "resnet18_for_cifar10.Cifar10ResNet18",
            "resnet18_for_cifar100.Cifar100ResNet18",
            "resnet18_for_cifar20.Cifar20ResNet18",
            "resnet18_for_fairface.FairFaceResNet18",
            "Food101_classifier.Food101ResNet18",
            "Foor101_classifier.Food101ResNet18",
            "Country211_classifier.Country211ResNet18",
        )
    },
    **{
        f"classifiers.{path}": _classifier("TorchVisionModel", **_RESNET | {"name": "resnet50"})
        for path in (
            "resnet18_for_celeba.CelebAResNet50",
            "resnet18_for_celeba.CelebAResNet50_logits",
            "resnet50_for_celeba.CelebAResNet50",
            "resnet18_for_cifar100.Cifar100ResNet50",
            "resnet18_for_cifar20.Cifar20ResNet50",
        )
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
