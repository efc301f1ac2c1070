"""Low-rank updates that peft has saved to a folder."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from erasure.errors import DataError, Diagnostic, InvalidParameters, RequirementNotMet
from erasure.models.text import library
from erasure.training.weights_files import read_weights

__all__ = ["check_adapter", "check_is_no_adapter", "looks_like_a_place", "merged"]

_DESCRIPTION = "adapter_config.json"
TOLD_LOSS = 0.05
"""From here on it is told what part of saved updates is rounded away."""

_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def looks_like_a_place(name: str) -> bool:
    """Whether a name is that of a folder or file and not one on the hub."""
    return name.startswith(("/", "~", ".")) or name.count("/") > 1 or "\\" in name or name.endswith(".gguf")


def check_is_no_adapter(folder: str) -> None:
    """Refuse a folder that has low-rank updates and no model.

    Raises:
        InvalidParameters: If it is one; names the model they are for.
    """
    place = Path(folder).expanduser()
    if (place / _DESCRIPTION).is_file() and not (place / "config.json").is_file():
        base = _base_of(place) or "their model"
        message = f'"{folder}" has low-rank updates only'
        hint = f"give the folder of {base} as name_or_path, and this one as adapter"
        raise InvalidParameters([Diagnostic(message, path="CausalLanguageModel.name_or_path", hint=hint)])


def check_adapter(folder: str, name_or_path: str) -> None:
    """Refuse a folder without low-rank updates, or with those of another model.

    Raises:
        InvalidParameters: If it is one.
    """
    place = Path(folder).expanduser()
    if not (place / _DESCRIPTION).is_file():
        message = f'"{folder}" has no low-rank updates ({_DESCRIPTION})'
        raise InvalidParameters(
            [Diagnostic(message, path="CausalLanguageModel.adapter", hint="give a folder that peft has saved")]
        )
    if not any((place / name).is_file() for name in _WEIGHTS):
        message = f'"{folder}" describes low-rank updates and has none ({" or ".join(_WEIGHTS)})'
        raise InvalidParameters(
            [Diagnostic(message, path="CausalLanguageModel.adapter", hint="give the whole folder that peft has saved")]
        )
    base = _base_of(place)
    if base and Path(base).name != Path(name_or_path).name:
        message = f'the updates in "{folder}" are for the model "{base}", not for "{name_or_path}"'
        hint = f"give that model; if it only was renamed, write its new name into {_DESCRIPTION}"
        raise InvalidParameters([Diagnostic(message, path="CausalLanguageModel.adapter", hint=hint)])


def merged(network: Any, folder: str) -> Any:
    """A model of transformers with the low-rank updates of a folder added to its weights.

    Weights of bfloat16 are rounded again as they are added; a ``UserWarning`` tells what that takes off the updates, from a twentieth on.

    Raises:
        RequirementNotMet: If they do not fit, or are damaged.
    """
    peft, place = library("peft", "adapter"), Path(folder).expanduser()
    try:
        n_saved = _n_updates(_names(place))
    except DataError as error:
        raise RequirementNotMet(f"the low-rank updates cannot be read: {error}") from error
    try:
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            adapted = peft.PeftModel.from_pretrained(network, str(place))
        n_taken = _n_updates(name for name, _ in adapted.named_parameters())
        # The library says no more than this of updates that it has not found, and nothing of those that it has not used.
        if n_saved != n_taken or any("missing adapter keys" in str(each.message) for each in heard):
            raise RequirementNotMet(
                f'the low-rank updates in "{folder}" are of another model: they change {n_saved} linear maps, and this model has '
                f"{n_taken} such maps or calls them otherwise; give the adapter of this model"
            )
        lost = _lost_by_rounding(adapted)
        if lost >= TOLD_LOSS:
            text = f'adding the low-rank updates in "{folder}" to weights of bfloat16 rounds {lost:.0%} of them away'
            warnings.warn(f"{text}; take dtype float32 to keep them whole", stacklevel=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # The library freezes the weights that updates stand beside, and leaves them so.
            return adapted.merge_and_unload().requires_grad_(True)
    except (RuntimeError, ValueError, TypeError, LookupError, OSError) as error:
        # Where shapes differ, the first line only says that there was something.
        reason = next(
            (line.strip() for line in str(error).splitlines() if "mismatch" in line), str(error).strip().splitlines()[0]
        )
        message = (
            f'the low-rank updates in "{folder}" do not fit this model: {reason.rstrip(".:")}; give the adapter of this model'
        )
        raise RequirementNotMet(message) from error


@torch.no_grad()
def _lost_by_rounding(adapted: Any) -> float:
    """Size of what rounding to the type of the weights changes, over that of the updates; by the root of summed squares."""
    lost = size = 0.0
    for layer in adapted.modules():
        base = getattr(layer, "base_layer", None)
        if base is None or base.weight.dtype in {torch.float32, torch.float64}:
            continue
        for name in layer.active_adapters:
            update = layer.get_delta_weight(name).float()
            exact = base.weight.float() + update
            lost += float((exact.to(base.weight.dtype).float() - exact).square().sum())
            size += float(update.square().sum())
    return math.sqrt(lost / size) if size else 0.0


def _names(place: Path) -> Iterable[str]:
    """Names of the tensors of saved updates."""
    return read_weights(str(next(place / name for name in _WEIGHTS if (place / name).is_file())))


def _n_updates(names: Iterable[str]) -> int:
    """Linear maps that are updated."""
    return sum(".lora_A." in name for name in names)


def _base_of(place: Path) -> str:
    try:
        found = json.loads((place / _DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f'"{place / _DESCRIPTION}" cannot be read: {error}'
        raise InvalidParameters([Diagnostic(message, path="CausalLanguageModel.adapter")]) from error
    base = found.get("base_model_name_or_path") if isinstance(found, dict) else None
    return base if isinstance(base, str) else ""
