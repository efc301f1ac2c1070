"""The contract class of each kind of component; imported when asked for, since most need torch."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

__all__ = ["SLOTS"]


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


SLOTS: dict[str, Callable[[], Any]] = {
    kind: functools.partial(_load, target)
    for kind, target in {
        "source": "erasure.data.contract:DataSource",
        "step": "erasure.data.preprocess.contract:Step",
        "tokenizer": "erasure.data.preprocess.tokenizers:Tokenizer",
        "vocabulary": "erasure.data.language.vocabularies:Vocabulary",
        "splitter": "erasure.data.contract:Splitter",
        "model": "erasure.training.predictor:Model",
        "unlearner": "erasure.unlearners.contract:Unlearner",
        "mask": "erasure.unlearners.masked:Mask",
        "corruption": "erasure.data.corruption:Corruption",
        "trigger": "erasure.training.triggers:Trigger",
        "augmentation": "erasure.training.augmentation:Augmentation",
        "measure": "erasure.measures.contract:Measure",
    }.items()
}
"""Kind to a function that gives its contract class."""
