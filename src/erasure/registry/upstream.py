"""The vocabulary of the configuration format that researchers already have, as a table of data.

Source: aiim-research/ERASURE at d5bbbe5. Each dotted path maps to one of our components, with its parameters renamed and the
defaults its author had in mind.
"""

from __future__ import annotations

from erasure.registry.upstream_alias import ALWAYS_CACHED, Alias
from erasure.registry.upstream_data import SOURCES, SPLITTERS, STEPS
from erasure.registry.upstream_methods import MEASURES, UNLEARNERS
from erasure.registry.upstream_models import MODELS

__all__ = ["READ_BY_NAME", "SECTIONS", "UPSTREAM", "Alias"]

_PREDICTOR = Alias(
    kind="predictor",
    target="",
    ignored={
        "cached": ALWAYS_CACHED,
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
        ignored={"loss_fn": "the loss is the predictor's"},
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

UPSTREAM: dict[str, Alias] = {
    **{f"erasure.data.data_sources.{path}": alias for path, alias in SOURCES.items()},
    **{f"erasure.data.datasets.DataSplitter.{path}": alias for path, alias in SPLITTERS.items()},
    **{f"erasure.data.preprocessing.{path}": alias for path, alias in STEPS.items()},
    **{f"erasure.model.{path}": alias for path, alias in MODELS.items()},
    **{f"erasure.unlearners.{path}": alias for path, alias in UNLEARNERS.items()},
    **{f"erasure.evaluations.{path}": alias for path, alias in MEASURES.items()},
}
"""Upstream's full dotted path to what we make of it."""

_OURS_TOO = {
    "unlearner": {
        "alpha",
        "dampening_constant",
        "epochs",
        "file_name",
        "noise_lr",
        "optimizer",
        "save_dir",
        "selection_weighting",
    },
    "measure": {
        "activations",
        "alpha",
        "block_diag",
        "function",
        "name",
        "output_format",
        "partition",
        "path",
        "runners",
        "target",
    },
}
READ_BY_NAME: dict[str, frozenset[str]] = {
    kind: frozenset(names.union(*(alias.vocabulary for alias in UPSTREAM.values() if alias.kind == kind)))
    for kind, names in _OURS_TOO.items()
}
"""Parameters by kind of those of upstream's classes that look for what they know in their node, and never at what else is there."""
