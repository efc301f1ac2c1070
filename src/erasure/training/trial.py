"""What is tried on a network before any work starts, and how its inputs are kept from it."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as nn_module
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from erasure.errors import RequirementNotMet
from erasure.training.forward import FeaturesAndHead, logits_of, unclear_logits
from erasure.training.randomness import isolated

__all__ = [
    "as_before",
    "copied",
    "deep_copy",
    "differentiable_gradients",
    "gives_probabilities",
    "has_foreign_hooks",
    "initialised",
    "inputs_kept",
    "keep_inputs",
    "layer_at_fault",
    "release_inputs",
    "require_gradients",
    "try_one_sample",
    "try_outputs",
    "unwatched",
]


def deep_copy(model: nn.Module) -> nn.Module:
    """A deep copy, also of a network that keeps results of its last call, which tensors with a gradient do not let be copied.

    Weights of ``torch.nn.utils.prune`` and of the older ``weight_norm`` and ``spectral_norm`` are such results, and so is what networks
    keep to be looked at (attention, features). The copy has their values.

    Raises:
        RequirementNotMet: If the network holds something that cannot be copied, such as a lock, an open file or a generator of Python.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for name, value in vars(module).items():
            if type(value) in (OrderedDict, dict, set) and not value:  # a dozen a layer: most of the time of a deep copy
                memo[id(value)] = type(value)()
            elif name not in ("_parameters", "_buffers", "_modules") and not isinstance(value, _ATOMS):
                memo |= {id(each): each.detach().clone() for each in _computed(value)}
    try:
        return copy.deepcopy(model, memo)
    except (TypeError, RuntimeError, AttributeError, NotImplementedError) as error:
        raise RequirementNotMet(
            f"{type(model).__name__} cannot be copied, and methods change a copy: {error}; keep what cannot be copied outside the network, "
            "or give it a __deepcopy__"
        ) from error


_ATOMS = (bool, int, float, str, type(None))


def _computed(value: Any) -> Iterator[Tensor]:
    """Tensors that were computed with a gradient, also in tuples, lists and mappings."""
    if isinstance(value, Tensor):
        if not value.is_leaf:
            yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _computed(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _computed(each)


def copied(x: Any) -> Any:
    """A copy of a model's input, every tensor in it of its own; what is no tensor stays."""
    if isinstance(x, Tensor):
        return x.clone()
    if isinstance(x, Mapping):
        return type(x)({key: copied(value) for key, value in x.items()})  # type: ignore[call-arg]
    if isinstance(x, tuple | list):
        parts = [copied(value) for value in x]
        return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
    if is_dataclass(x) and not isinstance(x, type):
        made = copy.copy(x)
        for name, value in vars(x).items():  # what it has computed of its fields included
            if isinstance(value, Tensor | tuple):
                object.__setattr__(made, name, copied(value))
        return made
    clone = getattr(x, "clone", None)
    return clone() if callable(clone) else x


def _copies(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return tuple(copied(value) for value in args), {name: copied(value) for name, value in kwargs.items()}


def _caching(model: nn.Module) -> list[nn.Module]:
    """Layers of torch_geometric with ``cached=True``: from their second call on they read the graph, or even the features, of the first."""
    return [module for module in model.modules() if getattr(module, "cached", None) is True]


def _drop_caches(model: nn.Module, *_: Any) -> None:
    for module in _caching(model):
        for name in [name for name in vars(module) if name.startswith("_cached_")]:
            setattr(module, name, None)


def _note_flags(model: nn.Module, *_: Any) -> None:
    object.__setattr__(model, "_flags_before", [parameter.requires_grad for parameter in model.parameters()])


def _restore_flags(model: nn.Module, *_: Any) -> None:
    for parameter, flag in zip(model.parameters(), vars(model).pop("_flags_before"), strict=True):
        parameter.requires_grad_(flag)


def keep_inputs(model: nn.Module) -> nn.Module:
    """Let ``model`` and every deep copy of it work on copies of their inputs, so that one that writes over them harms nobody.

    Layers that keep what they have read of a graph compute it again in every call, so that no forgotten node answers from there. What
    may be trained is put back after every call of a network with peft's adapters, which turn their gradients on by themselves.

    The networks of this package write over nothing and read their inputs as they are: copies would cost time, and a copy of a graph's
    features is not the graph of which so much is known already.
    """
    if any(hook in _HOOKS for hook in model._forward_pre_hooks.values()):
        return model
    if not _is_ours(model):
        model.register_forward_pre_hook(_copies, with_kwargs=True, prepend=True)
    if _caching(model):
        model.register_forward_pre_hook(_drop_caches)
    if any(type(module).__module__.startswith("peft.") for module in model.modules()):
        model.register_forward_pre_hook(_note_flags)
        model.register_forward_hook(_restore_flags)
    return model


def _is_ours(model: nn.Module) -> bool:
    return type(model) is FeaturesAndHead or type(model).__module__.startswith("erasure.models.")


def has_foreign_hooks(module: nn.Module) -> bool:
    """Whether somebody else listens to a module's passes."""
    kinds = (module._forward_pre_hooks, module._forward_hooks, module._backward_pre_hooks, module._backward_hooks)
    return any(hook not in _HOOKS for kind in kinds for hook in kind.values())


def release_inputs(model: nn.Module) -> nn.Module:
    """Undo :func:`keep_inputs`, also on a deep copy; what layers have kept of a graph is dropped."""
    for number in [number for number, hook in model._forward_pre_hooks.items() if hook in _HOOKS]:
        del model._forward_pre_hooks[number]
        model._forward_pre_hooks_with_kwargs.pop(number, None)
    for number in [number for number, hook in model._forward_hooks.items() if hook is _restore_flags]:
        del model._forward_hooks[number]
    _drop_caches(model)
    return model


_HOOKS = (_copies, _drop_caches, _note_flags)


@contextmanager
def inputs_kept(model: nn.Module) -> Iterator[None]:
    """:func:`keep_inputs` for a while; the networks of this package are left alone."""
    if _is_ours(model) or _copies in model._forward_pre_hooks.values():
        yield
        return
    keep_inputs(model)
    try:
        yield
    finally:
        release_inputs(model)


@contextmanager
def as_before(model: nn.Module) -> Iterator[None]:
    """Modes, buffers, what may be trained and torch's generators are put back at the end.

    A pass may change what may be trained: leaving peft's ``disable_adapter()`` turns gradients on for every adapter.
    """
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with isolated(0, device):
            yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


@contextmanager
def unwatched() -> Iterator[None]:
    """Hooks that others registered for all modules wait until the end; a network's own hooks run.

    The tensors of a transform cannot be read as others can (``.numpy()`` raises there), and a hook that fails would look like a layer
    without a derivative.
    """
    forward = (nn_module._global_forward_pre_hooks, nn_module._global_forward_hooks)
    listening = (*forward, nn_module._global_backward_pre_hooks, nn_module._global_backward_hooks)
    waiting = [dict(hooks) for hooks in listening]
    for hooks in listening:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, before in zip(listening, waiting, strict=True):
            hooks.update(before)


@torch.no_grad()
def try_outputs(model: nn.Module, x: Any, n_outputs: int | None = None) -> Tensor:
    """Logits of ``model`` in eval mode for a few samples; in training mode it must return logits of the same shape.

    Args:
        model: As before afterwards.
        x: Its input, left as it is.
        n_outputs: Width of the logits, if it is known; a pair whose first part has it is refused.

    Raises:
        RequirementNotMet: If which output is the logits cannot be told, or differs between the modes.
    """
    found: list[Tensor] = []
    with as_before(model):
        for training in (False, True):
            try:
                output = model.train(training)(copied(x))
            except ValueError as error:
                # BatchNorm needs more than one value a channel; the loop gives a single sample the running statistics.
                if training and "more than 1 value per channel" in str(error):
                    break
                raise
            logits = logits_of(output)
            if not logits.ndim:
                raise RequirementNotMet(
                    "the model returns a single number for a batch, expected logits for each sample: alone, as the second of a pair, "
                    "or in a field logits"
                )
            width = n_outputs if n_outputs is not None else logits.shape[-1] if logits.ndim > 1 else 1
            reason = None if type(model).__module__.startswith("erasure.") else unclear_logits(output, width)
            if reason is not None:
                raise RequirementNotMet(f"{reason} (in {'training' if training else 'eval'} mode)")
            found.append(logits)
    if len({tuple(logits.shape) for logits in found}) > 1:
        raise RequirementNotMet(
            f"the model returns logits of shape {tuple(found[0].shape)} in eval mode and {tuple(found[1].shape)} in training mode"
        )
    return found[0]


def try_one_sample(model: nn.Module, x: Any, logits: Tensor) -> None:
    """That one sample gives one row of logits with a gradient: a batch of two cannot show what two outputs stand for.

    Args:
        model: In eval mode as before afterwards.
        x: A single sample, left as it is.
        logits: Those of two samples.

    Raises:
        RequirementNotMet: If the outputs do not follow the samples, such as those of the first sample alone, or lose the axis of the
            samples where there is one; a single output a sample may lose it. If no weight that may be trained has a gradient.
    """
    with as_before(model), torch.enable_grad():
        try:
            one = logits_of(model.eval()(copied(x)))
        except (RuntimeError, ValueError, TypeError, IndexError):  # a network for two or more samples: what then comes is its own
            return
    if not one.requires_grad and any(parameter.requires_grad for parameter in model.parameters()):
        raise RequirementNotMet(
            "the model's outputs have no gradient, so that nothing can be trained: look for torch.no_grad, torch.inference_mode, "
            ".detach(), .data or numpy in its forward"
        )
    if tuple(one.shape) == (1, *logits.shape[1:]) or (one.numel() == 1 and logits.shape[1:].numel() == 1):
        return
    shapes = f"{tuple(logits.shape)} for two samples and {tuple(one.shape)} for one"
    raise RequirementNotMet(
        f"the model returns logits of shape {shapes}, expected one row of logits for each sample; look for [0], a mean over the batch, .T "
        "or squeeze() without an axis in its forward"
    )


def gives_probabilities(model: nn.Module, x: Any) -> str | None:
    """What it means that a network ends in a softmax or a sigmoid, or None if it gives logits or log-probabilities.

    Args:
        model: As before afterwards.
        x: Its input, left as it is.
    """
    with as_before(model), torch.enable_grad():
        logits = logits_of(model.eval()(copied(x)))
    if logits.ndim == 2 and logits.shape[1] > 1 and _is_distribution(logits.detach()):
        last, effect = "softmax", "the class is right, but cross-entropy and divergences take a softmax of the probabilities"
    elif _last_function(logits) == "SigmoidBackward0":
        last, effect = (
            "sigmoid",
            "every value above 0 counts as a yes, so that accuracies are wrong, and losses take a sigmoid of it",
        )
    else:
        return None
    return (
        f"the model ends in a {last}, and what it returns is read as logits: {effect}. Give the network without its last {last}."
    )


def _is_distribution(rows: Tensor) -> bool:
    return bool((rows >= 0).all()) and bool(((rows.float().sum(dim=1) - 1).abs() < 1e-3).all())


_RESHAPES = {
    "Alias",
    "Permute",
    "Reshape",
    "Select",
    "Slice",
    "Squeeze",
    "T",
    "ToCopy",
    "Transpose",
    "UnsafeView",
    "Unsqueeze",
    "View",
}


def _last_function(output: Tensor) -> str:
    """Name of the function that computed a tensor, but for those that only give it another shape."""
    node: Any = output.grad_fn
    while node is not None and type(node).__name__.partition("Backward")[0] in _RESHAPES:
        node = node.next_functions[0][0]
    return type(node).__name__


def initialised(model: nn.Module) -> str | None:
    """Why a network has no weights yet, or None."""
    for name, module in model.named_modules():
        tensors = (*module.parameters(recurse=False), *module.buffers(recurse=False))
        if any(isinstance(tensor, UninitializedParameter | UninitializedBuffer) for tensor in tensors):
            return (
                f'the layer "{name or "model"}" ({type(module).__name__}) does not know its shape yet; run the model once on a sample '
                "before it is used"
            )
    return None


def require_gradients(model: nn.Module, output: Tensor) -> None:
    """Gradients by ``torch.autograd.grad`` reach all weights that ``output`` was computed with.

    A reentrant checkpoint hides the weights inside it: such gradients would be silently 0.

    Raises:
        RequirementNotMet: If there is one.
    """
    if any(type(node).__name__ == "CheckpointFunctionBackward" for node in _operations(output)):
        raise RequirementNotMet(
            f"{type(model).__name__} computes some of its layers in a reentrant checkpoint, which hides their weights from the "
            "gradients that this method takes; use torch.utils.checkpoint.checkpoint(..., use_reentrant=False)"
        )


def differentiable_gradients(output: Tensor, inputs: Sequence[Tensor], seed: Tensor | None = None) -> tuple[Tensor, ...]:
    """Gradients that can be differentiated again, as ``torch.autograd.grad`` with ``create_graph`` gives them; 0 of unused inputs.

    A function of somebody's own whose backward pass is marked ``once_differentiable``, or computed outside the graph as kernels are,
    would be left out of the second derivatives in silence: ``torch.autograd.grad`` passes by the error that torch has put there.

    Raises:
        RequirementNotMet: If ``output`` was computed with such a function; names it.
    """
    lost: set[str] = set()

    def look(name: str, found: Any, seeds: Any) -> None:
        if any(isinstance(each, Tensor) and each.requires_grad for each in seeds):
            lost.update(name for each in found if isinstance(each, Tensor) and _is_cut_off(each))

    functions = [node for node in _operations(output) if isinstance(node, torch.autograd.function.BackwardCFunction)]
    handles = [node.register_hook(functools.partial(look, type(node).__name__.removesuffix("Backward"))) for node in functions]
    try:
        gradients = torch.autograd.grad(output, inputs, seed, create_graph=True, allow_unused=True, materialize_grads=True)
    finally:
        for handle in handles:
            handle.remove()
    if lost:
        raise RequirementNotMet(
            f"this needs second derivatives, and the backward pass of {', '.join(sorted(lost))} (a torch.autograd.Function) cannot be "
            'differentiated; use a method that takes gradients only, such as InfluenceUnlearning with solver="woodfisher"'
        )
    return gradients


def _operations(output: Tensor) -> list[Any]:
    """What ``output`` was computed by: every node of its graph."""
    seen: dict[Any, None] = {}
    waiting: list[Any] = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen[node] = None
            waiting += [following for following, _ in node.next_functions]
    return list(seen)


def _is_cut_off(gradient: Tensor) -> bool:
    """Whether a gradient does not know what it was computed from; where it is 0 there is nothing to know."""
    return type(gradient.grad_fn).__name__ == "Error" or (not gradient.requires_grad and bool(gradient.any()))


def layer_at_fault(model: nn.Module, error: BaseException) -> str:
    """The innermost layer that was running when ``error`` was raised, as ``"name" (Class)``; of a loss or another model: empty."""
    names = {id(module): name for name, module in model.named_modules()}
    kinds = {type(module): name for name, module in reversed(list(model.named_modules()))}
    found, trace = "", error.__traceback__
    while isinstance(trace, TracebackType):
        module = trace.tb_frame.f_locals.get("self")
        is_running = (
            trace.tb_frame.f_code.co_name != "__getattr__"
        )  # looking for what a layer does not have is the caller's doing
        if is_running and isinstance(module, nn.Module) and (id(module) in names or type(module) in kinds):
            name = names.get(id(module), kinds.get(type(module), ""))
            found = f'"{name or "model"}" ({type(module).__name__})'
        trace = trace.tb_next
    return found
