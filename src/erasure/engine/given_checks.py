"""What is asked of what somebody brings along before anything is done with it: the model, the settings, the loss and positions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.utils.data import Subset

from erasure.errors import DataError, Diagnostic, InvalidParameters, RequirementNotMet
from erasure.training.calls import Criterion
from erasure.training.fit import outputs_misread

__all__ = [
    "check_bounds",
    "check_model",
    "check_run",
    "check_settings",
    "chosen_positions",
    "positions",
    "positions_in",
    "try_loss",
]


def check_model(model: Any, *, finite: bool = True) -> None:
    """That it is a network with weights, finite ones unless ``finite`` is False.

    Raises:
        RequirementNotMet: If it is not.
    """
    if isinstance(model, nn.Module):
        _check_weights(model, finite)
        _check_labels(model)
        return
    start = f"the model is a {type(model).__name__}, expected a torch.nn.Module"
    if isinstance(model, type):
        start, remedy = f"the model is the class {model.__name__}, expected a trained network of it", "give the object"
    elif isinstance(model, Mapping):
        remedy = "weights alone do not say what they compute; build the network, call its load_state_dict and give the network"
    elif model is None or isinstance(model, str | Path):
        remedy = "load the network first and give the network"
    else:
        remedy = (
            "methods change weights by gradients; a model of another library, such as scikit-learn, is trained again on the retain set "
            "instead"
        )
    raise RequirementNotMet(f"{start}: {remedy}")


def _check_labels(model: nn.Module) -> None:
    """That a network of transformers gives classes, and not a token at every position, whose labels are answers to prompts."""
    # A language model of ours has that network inside.
    head = getattr(model.network if hasattr(model, "everywhere") else model, "get_output_embeddings", None)
    if callable(head) and isinstance(head(), nn.Module):
        raise RequirementNotMet(
            f"{type(model).__name__} writes texts, and what it learned is prompts and answers, not labels: save the model and its "
            "tokenizer to a folder (save_pretrained), and give both to erasure.run (CausalLanguageModel, PromptsAndAnswers; see "
            "docs/language-models.md)"
        )


def _check_weights(model: nn.Module, finite: bool) -> None:
    """That a network has weights, and is no compiled code, which cannot be copied and looked into."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise RequirementNotMet(
            "the model is compiled by torch.jit, which lets nobody look into it: give the network that it was made from"
        )
    if any(value.is_meta for value in (*model.parameters(), *model.buffers())):
        raise RequirementNotMet('the model has weights on the device "meta", which holds none: load them first')
    for name, parameter in model.named_parameters() if finite else ():
        if not isinstance(parameter, UninitializedParameter) and not bool(parameter.detach().isfinite().all()):
            raise RequirementNotMet(
                f'the weights "{name}" of the model are not finite: it has diverged, or was not loaded as it was saved'
            )


def check_settings(*, seed: Any = 0, batch_size: Any = 1, threads: Any = 1, **chosen: tuple[Any, tuple[str | None, ...]]) -> None:
    """That what is given beside the model and the data is what it must be.

    Args:
        seed: A whole number from 0.
        batch_size: A whole number from 1.
        threads: A whole number from 1.
        **chosen: What was chosen, and what can be.

    Raises:
        InvalidParameters: With all that is wrong.
    """
    problems = [
        Diagnostic(f"expected a whole number from {least}, found {value!r}", path=name)
        for name, value, least in (("seed", seed, 0), ("batch_size", batch_size, 1), ("threads", threads, 1))
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least
    ]
    problems += [
        Diagnostic(f"expected {', '.join(str(each) for each in known if each is not None)}, found {value!r}", path=name)
        for name, (value, known) in chosen.items()
        if value not in known
    ]
    if problems:
        raise InvalidParameters(problems)


def check_bounds(*, whole: Iterable[str] = (), **given: tuple[Any, float, float]) -> None:
    """That numbers are within their bounds.

    Args:
        whole: Names of those that are whole numbers.
        **given: The number, its least and its largest value.

    Raises:
        InvalidParameters: With all that is wrong.
    """
    problems = []
    for name, (value, least, most) in given.items():
        kind = int | np.integer if name in whole else int | float | np.integer | np.floating
        if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
            upper = f" to {most:g}" if math.isfinite(most) else ""
            expected = f"{'whole ' if name in whole else ''}number from {least:g}{upper}"
            problems.append(Diagnostic(f"expected a {expected}, found {value!r}", path=name))
    if problems:
        raise InvalidParameters(problems)


def check_run(configuration: Any, seeds: Any) -> None:
    """That a configuration is a path or a mapping, and seeds, where there are any, whole numbers.

    Raises:
        DataError: If they are something else.
        InvalidParameters: If a seed is no whole number from 0.
    """
    if not isinstance(configuration, Path | str | Mapping):
        raise DataError(f"the configuration is a {type(configuration).__name__}, expected a path or a mapping")
    if seeds is not None and (isinstance(seeds, str) or not isinstance(seeds, Iterable) or not list(seeds)):
        raise DataError(f"seeds = {seeds!r}: expected a list of whole numbers, such as [0, 1, 2]")
    for seed in seeds or ():
        check_settings(seed=seed)


def try_loss(criterion: Criterion, logits: Tensor, y: Tensor, given: Any = None) -> None:
    """That the loss can be had and differentiated, and reads the outputs as what they are, before any work."""
    misread = (
        outputs_misread(type(given).__name__, logits, criterion.task) if type(given).__module__.startswith("torch.nn.") else None
    )
    if misread is not None:
        raise RequirementNotMet(misread)
    found = logits.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            loss = criterion(found, y)
    except RequirementNotMet:
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        shapes = f"logits {tuple(logits.shape)} and labels {tuple(y.shape)} ({y.dtype})"
        raise RequirementNotMet(f"the loss does not take {shapes}: {error}") from error
    if not loss.requires_grad:
        raise RequirementNotMet("the loss has no gradient with respect to the logits")


def positions_in(samples: Any, whole: Any) -> Any:
    """What somebody gave as positions: one row of numbers, a mask, or a ``Subset`` of ``whole``; None where these are samples."""
    if isinstance(samples, Subset):
        return samples.indices if samples.dataset is whole and len(samples) else None
    if isinstance(samples, list | tuple):
        return samples if samples and all(isinstance(each, int | float | str | np.generic) for each in samples) else None
    if isinstance(samples, range | Set):
        return samples
    return samples if getattr(samples, "ndim", 0) == 1 and hasattr(samples, "dtype") else None


def chosen_positions(forget: Any, retain: Any, train: Any) -> dict[str, Any]:
    """Positions in the training set by role, where ``forget`` is given by them; nothing where it is samples.

    Raises:
        DataError: If there is no training set for positions.
    """
    gone = positions_in(forget, train)
    if gone is None:
        return {}
    if train is None:
        raise DataError("forget holds positions; give the data set that they are positions in as train=")
    kept = positions_in(retain, train)
    return {"forget": gone} | ({"retain": kept} if kept is not None or retain is None else {})


def positions(ids: Any, n: int, what: str, whole: str = "data") -> Tensor:
    """Sorted positions in data of ``n`` samples, from whole numbers or a mask.

    Raises:
        DataError: If they are something else, or are not in the data; names the first that is not.
    """
    expected = f"{what} must be positions of samples in {whole}, as whole numbers or as a mask of {n:,}"
    try:
        found_ids = np.array(
            ids.detach().cpu().numpy() if isinstance(ids, Tensor) else list(ids) if isinstance(ids, Set | Iterator) else ids
        )
    except (ValueError, TypeError, RuntimeError) as error:
        raise DataError(f"{expected}, found {type(ids).__name__} that is not one row of numbers") from error
    if found_ids.dtype.kind in "OUS":
        odd = next((each for each in found_ids.reshape(-1).tolist() if not isinstance(each, int)), None)
        raise DataError(f"{expected}, found {odd!r}; give a mask such as numpy.isin(people, [...])")
    if not found_ids.size:
        raise DataError(f"there is nothing to {what}: {what} holds no samples")
    values = torch.as_tensor(found_ids)
    if values.ndim != 1 or (values.dtype != torch.bool and (values.is_floating_point() or values.is_complex())):
        raise DataError(f"{expected}, found shape {tuple(values.shape)} of {str(values.dtype).removeprefix('torch.')}")
    if values.dtype == torch.bool:
        if len(values) != n:
            raise DataError(f"{what} is a mask of {len(values):,} samples, and the data has {n:,}")
        return values.nonzero().flatten()
    if len(values) == n > 2 and bool(((values == 0) | (values == 1)).all()):
        raise DataError(
            f"{what} holds {n:,} times 0 or 1, as many as the data has samples: give a mask as truth values (.astype(bool))"
        )
    outside = values[(values < 0) | (values >= n)]
    if len(outside):
        raise DataError(
            f"{what}: {len(outside):,} of the positions are not in the data (0 to {n - 1:,}), the first is {int(outside[0])}"
        )
    found: Tensor = torch.unique(values.long())
    return found
