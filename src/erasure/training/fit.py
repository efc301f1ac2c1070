"""Whether a model's output, the loss and the labels belong together, asked before anything is trained."""

from __future__ import annotations

import warnings
from typing import Any

from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.training.calls import Criterion, Loss
from erasure.training.predictor import ModelInput
from erasure.types import Task

__all__ = ["loss_misfit", "output_misfit", "outputs_misread"]

_OF_ONE_CLASS = frozenset({"CrossEntropyLoss", "NLLLoss", "MultiMarginLoss"})
"""Losses of torch that compare logits of all classes with the number of one."""

_OF_YES_OR_NO = frozenset({"BCEWithLogitsLoss", "MultiLabelSoftMarginLoss"})
"""Losses of torch that compare each logit with a 0 or a 1."""

_OF_NUMBERS = frozenset(
    {"GaussianNLLLoss", "HuberLoss", "KLDivLoss", "L1Loss", "MSELoss", "PoissonNLLLoss", "SmoothL1Loss", "SoftMarginLoss"}
)
"""Losses of torch that compare each logit with a number; with the number of a class, they would by chance of its shape."""

_ROUNDING = 1e-3

_LABELS = {
    "classification": "one of {n} classes a sample",
    "binary": "0 or 1 a sample",
    "multilabel": "{n} labels of 0 or 1 a sample",
    "generation": "the tokens of an answer, out of {n}",
}
_LOGITS = {
    "classification": "{n} logits, one for each class",
    "binary": "one logit",
    "multilabel": "{n} logits, one for each label",
    "generation": "{n} logits for each token of an answer, as a language model gives them",
}
_LOSSES = {
    "classification": "CrossEntropyLoss",
    "binary": "BCEWithLogitsLoss",
    "multilabel": "BCEWithLogitsLoss",
    "generation": "no other",
}


def output_misfit(logits: Tensor, data: ModelInput, n_samples: int) -> str | None:
    """Why a model's logits cannot be the answer to the task, or None.

    Args:
        logits: What the model said about ``n_samples`` samples.
        data: The task.
        n_samples: How many there were.
    """
    width = 1 if logits.dim() == 1 else logits.shape[-1]
    wanted = data.n_outputs
    n_axes = {"binary": min(logits.dim(), 2), "generation": 3}.get(data.task, 2)
    fits = len(logits) == n_samples and logits.dim() == n_axes
    if fits and (width >= wanted if data.task in {"classification", "generation"} else width == wanted):
        return None
    asked = _LOGITS[data.task].format(n=data.n_classes)
    message = (
        f"the model returns logits of shape {tuple(logits.shape)} for {n_samples} samples; the {data.task} task asks for {asked}"
    )
    if data.task == "classification" and data.n_classes == 2 and width == 1:
        return f'{message}; give the data "task": "binary" to learn with a single logit'
    if data.task == "binary" and width == 2:
        return f'{message}; give the data "task": "classification" to learn with two'
    return message


_SHOWN = 10


def outputs_misread(loss: str, logits: Tensor, task: Task) -> str | None:
    """Why a loss of torch reads the outputs as something else than they are, or None.

    Args:
        loss: Name of its class.
        logits: Of some samples.
        task: How labels are read.
    """
    if loss == "BCELoss":
        remedy = f"leave loss_fn out, or give {_LOSSES[task]}"
        return f"BCELoss reads probabilities, while a model's outputs are logits everywhere else; {remedy}"
    if loss == "NLLLoss" and bool(((logits.float().exp().sum(-1) - 1).abs() > _ROUNDING).any()):
        return "NLLLoss reads log-probabilities, and the model has no log-softmax at its end; give CrossEntropyLoss"
    return None


def loss_misfit(criterion: Criterion, loss: Loss | None, data: ModelInput, logits: Tensor, y: Tensor) -> str | None:
    """Why the loss cannot compare the logits with the labels, or None.

    Args:
        criterion: The loss as it is used.
        loss: What the recipe names; None for the task's own.
        data: The task.
        logits: Of some samples.
        y: Their labels, on the same device.
    """
    if data.task == "generation" and loss is not None:
        return f"the loss of generated text is that of its tokens, not {loss.name}; leave loss_fn out"
    name = loss.name if loss is not None and loss.path.startswith("torch.nn.") else ""
    labels = _LABELS[data.task].format(n=data.n_classes)
    remedy = f"leave loss_fn out, or give {_LOSSES[data.task]}"
    misread = outputs_misread(name, logits, data.task)
    if misread is not None:
        return misread
    if name in _OF_YES_OR_NO | _OF_NUMBERS and data.task == "classification":
        number = "a 0 or a 1" if name in _OF_YES_OR_NO else "a number"
        message = f"{name} compares each logit with {number}, and the labels are {labels}; {remedy}"
        return f'{message}, or give the data "task": "binary" or "multilabel" if that is what it is'
    if name in _OF_ONE_CLASS and data.task != "classification":
        return f"{name} compares the logits of all classes with the number of one, and the labels are {labels}; {remedy}"
    for parameter in ("weight", "pos_weight"):
        given = None if loss is None else loss.parameters.get(parameter)
        if isinstance(given, list | tuple) and len(given) != data.n_outputs and (len(given) != 1 or name in _OF_ONE_CLASS):
            what = "labels" if data.task == "multilabel" else "classes"
            names = data.class_names[:_SHOWN]
            order = f" ({', '.join(names)}{', …' if len(data.class_names) > _SHOWN else ''})" if names else ""
            found = f"{name}.{parameter} has {len(given)} numbers, expected {data.n_outputs}"
            return f"{found}: one for each of the {what}, in their order{order}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mean: Any = criterion(logits, y)
            each: Any = criterion.per_sample(logits, y)
    except RequirementNotMet as error:
        return str(error)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        why = " ".join(str(error).split()).rstrip(".")
        return f"the loss does not accept {_LOGITS[data.task].format(n=logits.shape[-1])} and labels that are {labels} ({why}); {remedy}"
    if mean.dim() != 0 or each.shape != y.shape[:1]:
        return f"the loss gives shape {tuple(each.shape)} for {len(y)} samples; {remedy}"
    return None
