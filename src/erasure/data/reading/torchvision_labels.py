"""What torchvision's data sets say about a picture: its class, and for some its coarse class, attributes or identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from erasure.errors import DataError, nearest

__all__ = ["CIFAR100_COARSE", "Coded", "columns_of", "combined"]

_MAX_COMBINED = 12

CIFAR100_COARSE = {
    "aquatic_mammals": "beaver dolphin otter seal whale",
    "fish": "aquarium_fish flatfish ray shark trout",
    "flowers": "orchid poppy rose sunflower tulip",
    "food_containers": "bottle bowl can cup plate",
    "fruit_and_vegetables": "apple mushroom orange pear sweet_pepper",
    "household_electrical_devices": "clock keyboard lamp telephone television",
    "household_furniture": "bed chair couch table wardrobe",
    "insects": "bee beetle butterfly caterpillar cockroach",
    "large_carnivores": "bear leopard lion tiger wolf",
    "large_man-made_outdoor_things": "bridge castle house road skyscraper",
    "large_natural_outdoor_scenes": "cloud forest mountain plain sea",
    "large_omnivores_and_herbivores": "camel cattle chimpanzee elephant kangaroo",
    "medium_mammals": "fox porcupine possum raccoon skunk",
    "non-insect_invertebrates": "crab lobster snail spider worm",
    "people": "baby boy girl man woman",
    "reptiles": "crocodile dinosaur lizard snake turtle",
    "small_mammals": "hamster mouse rabbit shrew squirrel",
    "trees": "maple_tree oak_tree palm_tree pine_tree willow_tree",
    "vehicles_1": "bicycle bus motorcycle pickup_truck train",
    "vehicles_2": "lawn_mower rocket streetcar tank tractor",
}
"""The 20 coarse classes of CIFAR-100 in their order, with the classes in each; the classes are numbered in the order of their names."""


@dataclass(frozen=True, eq=False)
class Coded:
    """Codes of samples and what each code stands for: ``codes`` is ``(N,)``, or ``(N, K)`` for K named yes/no attributes."""

    codes: Tensor
    names: tuple[str, ...] = ()

    @classmethod
    def of_groups(cls, sizes: Sequence[int], names: tuple[str, ...]) -> Coded:
        """Samples of group 0 first, then of group 1, and so on."""
        return cls(torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)), names)


def columns_of(parts: Sequence[Any], attributes: Sequence[str] = ()) -> dict[str, Coded]:
    """All that the parts of a data set say about their samples, by name.

    Args:
        parts: Instances of one class of ``torchvision.datasets``.
        attributes: Those of CelebA to keep, in this order; empty for all.

    Raises:
        DataError: If the data set is not one of classification, or an attribute does not exist.
    """
    called = type(parts[0]).__name__
    if called == "CelebA":
        names = [name for name in parts[0].attr_names if name]
        missing = [name for name in attributes if name not in names]
        if missing:
            hint = nearest(missing[0], names)
            raise DataError(f"CelebA has no attribute {', '.join(missing)}{f'; {hint}' if hint else ''}")
        chosen = list(attributes or names)
        places = torch.tensor([names.index(name) for name in chosen])
        bits = torch.cat([part.attr for part in parts])[:, places].to(torch.int64)
        identities = torch.cat([part.identity for part in parts]).flatten().to(torch.int64)
        return {"attributes": Coded(bits, tuple(chosen)), "identity": Coded(identities)}
    codes = torch.cat([_classes(part) for part in parts])
    columns = {"class": Coded(codes, _class_names(parts[0]))}
    if called == "CIFAR100":
        fine = sorted((name, number) for number, each in enumerate(CIFAR100_COARSE.values()) for name in each.split())
        coarse = torch.tensor([number for _, number in fine])
        columns["coarse"] = Coded(coarse[codes], tuple(CIFAR100_COARSE))
    return columns


def combined(attributes: Coded) -> Coded:
    """Every combination of K yes/no attributes as one of 2**K codes, the first attribute being the highest digit.

    Raises:
        DataError: If there are too many attributes.
    """
    n_attributes = len(attributes.names)
    if n_attributes > _MAX_COMBINED:
        raise DataError(
            f"{n_attributes} attributes have 2**{n_attributes} combinations; choose up to {_MAX_COMBINED} in attributes, "
            'or give task = "multilabel"'
        )
    powers = 2 ** torch.arange(n_attributes - 1, -1, -1)
    digits = [format(code, f"0{n_attributes}b") for code in range(2**n_attributes)]
    names = tuple(", ".join(f"{n}={d}" for n, d in zip(attributes.names, each, strict=True)) for each in digits)
    return Coded((attributes.codes * powers).sum(1), names)


def _classes(dataset: Any) -> Tensor:
    called, n_samples = type(dataset).__name__, len(dataset)
    pairs = getattr(dataset, "_samples", None)
    known = [getattr(dataset, attribute, None) for attribute in ("targets", "labels", "_labels", "y")]
    if isinstance(pairs, list) and all(isinstance(each, tuple) and len(each) == 2 for each in pairs):
        known.append([each[1] for each in pairs])
    for values in known:
        if isinstance(values, list | np.ndarray | Tensor) and len(values) == n_samples:
            codes = _codes(values)
            if codes is not None:
                return codes
    # Slow, because every picture is decoded for its class.
    values = [dataset[i][1] for i in range(n_samples)]
    codes = _codes(values)
    if codes is None:
        example = type(values[0]).__name__ if values else "nothing"
        raise DataError(f"{called}: its targets are not one class for each picture (found {example}); it cannot be a source")
    return codes


def _codes(values: Any) -> Tensor | None:
    """Whole numbers ``(N,)``, or None if they are anything else."""
    try:
        codes = torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError, RuntimeError):
        return None
    return codes.to(torch.int64) if codes.ndim == 1 and not codes.is_floating_point() and not codes.is_complex() else None


def _class_names(dataset: Any) -> tuple[str, ...]:
    names = getattr(dataset, "classes", None) or getattr(dataset, "categories", None)
    if not isinstance(names, list | tuple):
        return ()
    return tuple(name if isinstance(name, str) else ", ".join(map(str, name)) for name in names)
