"""The vocabulary of the configuration format that researchers already have, as a table of data.

Source: aiim-research/ERASURE at d5bbbe5. Each dotted path maps to one of our components, with its parameters renamed and the
defaults its author had in mind. A path whose component does not exist yet maps to None: it is "known, not built yet".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["SECTIONS", "UPSTREAM", "Alias"]


@dataclass(frozen=True, kw_only=True)
class Alias:
    """How one of upstream's classes is understood.

    Args:
        kind: The slot it belongs to.
        target: Registered name of our component; None if it is not built yet; empty if the node needs no component here.
        rename: Upstream's parameter to ours.
        defaults: Values that upstream assumes where we assume something else, by our names.
        ignored: Parameters without effect, and why.
        wrap: Parameter that puts the component inside another one: parameter to (registered name, its parameter).
        note: One sentence on what we do differently.
        dropped: Why the node is left out, if it is.
        spliced: Parameter that holds a list of nodes which take this node's place.
    """

    kind: str
    target: str | None = None
    rename: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    wrap: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    note: str = ""
    dropped: str = ""
    spliced: str = ""


_ALWAYS_CACHED = "results are cached by their content; globals.cached turns that off"
_NO_TRAINING = "the method does not train"

SECTIONS: dict[str, Alias] = {
    "DatasetManager": Alias(kind="data", target="", rename={"DataSource": "data_source"}),
    "TorchModel": Alias(
        kind="predictor",
        target="",
        rename={"early_stopping_threshold": "patience"},
        ignored={"cached": _ALWAYS_CACHED, "alias": "the store knows models by their content"},
    ),
    "TorchModelMultilabel": Alias(
        kind="predictor",
        target="",
        rename={"early_stopping_threshold": "patience"},
        ignored={"cached": _ALWAYS_CACHED, "alias": "the store knows models by their content"},
    ),
    "Evaluator": Alias(kind="evaluator", target=""),
}
"""Sections of a configuration by the last part of their class path."""

_RETAIN_FORGET = {"ref_data_retain": "retain", "ref_data_forget": "forget"}
_LAYERS = {"last_trainable_layers": ("LastLayers", "n_layers")}


def _adam(**defaults: Any) -> dict[str, Any]:
    return {"optimizer": {"class": "torch.optim.Adam", "parameters": {"lr": 0.001}}, **defaults}


_UNLEARNERS: dict[str, Alias] = {
    "GoldModel.GoldModel": Alias(
        kind="unlearner",
        target="GoldModel",
        rename={"training_set": "retain"},
        ignored={
            "cached": _ALWAYS_CACHED,
            "predictor": "gold is trained by the predictor of the configuration",
            "data": "gold is trained on the data of the configuration",
            "ref_data": "ignored upstream too",
            "train_data": "ignored upstream too",
        },
    ),
    "Finetuning.Finetuning": Alias(
        kind="unlearner",
        target="Finetuning",
        rename={"ref_data": "retain", "ref_data_retain": "retain"},
        defaults=_adam(epochs=5),
        wrap=_LAYERS,
    ),
    "NegGrad.NegGrad": Alias(
        kind="unlearner",
        target="NegGrad",
        rename={"ref_data": "forget", "ref_data_forget": "forget"},
        defaults=_adam(epochs=5),
        wrap=_LAYERS,
    ),
    "composite.Cascade": Alias(kind="unlearner", target="Cascade", rename={"sub_unlearner": "steps"}),
    "composite.Identity": Alias(kind="unlearner", target="Identity"),
    "Scrub.Scrub": Alias(
        kind="unlearner",
        target="SCRUB",
        rename={"T": "temperature", **_RETAIN_FORGET},
        defaults=_adam(epochs=1, temperature=4.0),
        wrap=_LAYERS,
        note="the teacher is a real copy (upstream's shares the student's weights), and the maximising pass comes first, as published",
    ),
}

UPSTREAM: dict[str, Alias] = {f"erasure.unlearners.{path}": alias for path, alias in _UNLEARNERS.items()}
"""Upstream's full dotted path to what we make of it."""
