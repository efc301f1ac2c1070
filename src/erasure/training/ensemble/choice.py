"""Whether models can be trained together, and whether that is worth it: by architecture and recipe, so that it is the same everywhere."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from erasure.errors import RequirementNotMet
from erasure.training.calls import Loss
from erasure.training.devices import Precision
from erasure.training.ensemble.program import Program
from erasure.training.ensemble.stack import ELEMENTWISE
from erasure.training.ensemble.tape import Tape
from erasure.training.estimators import Estimator
from erasure.training.loop import frozen_norms
from erasure.training.predictor import Predictor
from erasure.training.sharded import ShardedEnsemble

__all__ = ["BLOCK_SIZE", "impossible", "unsuited", "unsupported_reason", "written_down"]

BLOCK_SIZE = 16
"""Models to train together: enough to spread the cost of a step, few enough for their activations to stay in the caches."""

MAX_PARAMETERS = 2**18
"""Above, a network's own arithmetic is what a step costs, and nothing is won by sharing the rest."""

MAX_PARAMETERS_OF_CONVOLUTIONS = 2**16
"""The same where there are convolutions; the first dense layer grows with the image, and so stands for the work on it."""

_MEANS: Mapping[str, frozenset[str]] = {
    "CrossEntropyLoss": frozenset({"label_smoothing"}),
    "NLLLoss": frozenset(),
    "BCEWithLogitsLoss": frozenset(),
    "MSELoss": frozenset(),
    "L1Loss": frozenset(),
    "SmoothL1Loss": frozenset({"beta"}),
    "HuberLoss": frozenset({"delta"}),
    "MultiMarginLoss": frozenset({"p", "margin"}),
}
"""Losses of torch that are plain means over the samples, and the parameters that leave them so."""


def unsupported_reason(model: nn.Module, predictor: Predictor, precision: Precision = "fp32") -> str | None:
    """Why models like ``model`` are better trained one by one, or None.

    Decided by architecture and recipe alone. What :func:`~erasure.training.ensemble.train_together` cannot do comes first; then
    large networks, which are as fast one by one.

    Args:
        model: One of the models; as before afterwards.
        predictor: Their recipe.
        precision: ``fp32`` or ``bf16``.
    """
    reason = impossible(model, predictor, precision)
    if reason is not None:
        return reason
    kinds = {type(module) for module in model.modules()}
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    most = MAX_PARAMETERS_OF_CONVOLUTIONS if nn.Conv2d in kinds else MAX_PARAMETERS
    if n_parameters > most:
        what = "a network with convolutions" if nn.Conv2d in kinds else "a network"
        return f"{what} of {n_parameters:,} parameters is as fast one by one (the limit is {most:,})"
    if nn.Conv2d in kinds and nn.AdaptiveAvgPool2d in kinds:
        return "a network that pools whole images may take large ones, for which it is as fast one by one"
    return None


def impossible(model: nn.Module, predictor: Predictor, precision: Precision = "fp32") -> str | None:
    """Why models like ``model`` cannot be trained together, or None."""
    try:
        written_down(model, predictor, precision)
    except RequirementNotMet as error:
        return str(error)
    return None


def written_down(model: nn.Module, predictor: Predictor, precision: Precision = "fp32") -> Tape:
    """The layers of models like ``model``.

    Raises:
        RequirementNotMet: If they cannot be trained together; the message says why.
    """
    if isinstance(model, Estimator | ShardedEnsemble):
        raise RequirementNotMet(f"{type(model).__name__} has a training of its own")
    reason = unsuited(predictor, precision)
    if reason is not None:
        raise RequirementNotMet(reason)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise RequirementNotMet("the model has no parameter that may be trained")
    if frozen_norms(model):
        raise RequirementNotMet("a frozen BatchNorm keeps its statistics while the rest trains")
    return Tape(Program(model), model)


def unsuited(predictor: Predictor, precision: Precision = "fp32") -> str | None:
    """Why no models can be trained together by a recipe, whatever the network, or None."""
    if precision != "fp32":
        return f"in {precision} sums are too coarse for models to end where they end one by one"
    if predictor.patience is not None or predictor.validation_set is not None:
        return "early stopping ends each training at an epoch of its own"
    if predictor.augment:
        return "augmentation changes the pictures of each training by draws of its own"
    if predictor.neighbours:
        return "neighbours are drawn for each training by itself"
    optimizer = predictor.optimizer.target()
    if optimizer.__name__ not in ELEMENTWISE or getattr(torch.optim, optimizer.__name__, None) is not optimizer:
        return f"the optimizer {optimizer.__name__} does not treat every weight by itself"
    if predictor.loss_fn is not None and not _is_mean(predictor.loss_fn):
        return f"the loss {predictor.loss_fn.path} is not known to be a plain mean over the samples"
    return None


def _is_mean(loss: Loss) -> bool:
    kind, parameters = loss.target(), dict(loss.parameters)
    is_plain = parameters.pop("reduction", "mean") == "mean" and getattr(nn, kind.__name__, None) is kind
    return is_plain and set(parameters) <= _MEANS.get(kind.__name__, frozenset({""})) and kind.__name__ in _MEANS
