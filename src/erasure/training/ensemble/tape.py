"""Losses and gradients of many models at once, layer by layer from the input to the logits and back.

The layers that small networks are made of have a backward pass of their own, which writes gradients where the optimizer reads them; all
others are differentiated by autograd, each alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from erasure.errors import RequirementNotMet
from erasure.training.ensemble.layers import FLATTENS, RELUS, RULES, SampleRows, images, stacked
from erasure.training.ensemble.program import Program
from erasure.training.forward import logits_of

__all__ = ["Tape"]

MODELS_WITH_CONVOLUTIONS = 8
"""Models to compute at a time where there are convolutions: few enough for the memory of what they keep for the backward pass."""

MODELS_WITH_LARGE_PICTURES = 4
"""The same for pictures of more pixels than :data:`LARGE_PICTURE`."""

LARGE_PICTURE = 16 * 16

Tensors = Mapping[str, Tensor]
Names = Mapping[str, str]


class _Layer(Protocol):
    """A layer between its forward and its backward pass."""

    def forward(self, x: Tensor, own: Tensors, samples: SampleRows) -> Tensor:
        """The output, ``(M, B, …)``, from the layer's stacked tensors by their local names."""
        ...

    def backward(self, gradient: Tensor, into: Tensors, needs_input: bool) -> Tensor | None:
        """Writes the gradients of the layer's weights into ``into``; returns that of its input if it is needed."""
        ...


class _Linear:
    """Samples last in memory: gradients of weights of few outputs are several times as fast."""

    def forward(self, x: Tensor, own: Tensors, samples: SampleRows) -> Tensor:
        self.weight, self.shape = own["weight"], x.shape
        self.x = (x if x.dim() == 3 else x.flatten(1, -2)).transpose(1, 2)
        bias = own.get("bias")
        y = torch.bmm(self.weight, self.x) if bias is None else torch.baddbmm(bias.unsqueeze(2), self.weight, self.x)
        y = y.transpose(1, 2)
        return y if x.dim() == 3 else y.view(*x.shape[:-1], self.weight.shape[1])

    def backward(self, gradient: Tensor, into: Tensors, needs_input: bool) -> Tensor | None:
        rows = (gradient if gradient.dim() == 3 else gradient.flatten(1, -2)).transpose(1, 2)
        if "weight" in into:
            torch.bmm(rows, self.x.transpose(1, 2), out=into["weight"])
        if "bias" in into:
            torch.sum(rows, 2, out=into["bias"])
        if not needs_input:
            return None
        if self.x.stride(1) == 1:  # as the input lies in memory
            found = torch.bmm(rows.transpose(1, 2), self.weight)
        else:
            found = torch.bmm(self.weight.transpose(1, 2), rows).transpose(1, 2)
        return found if len(self.shape) == 3 else found.view(self.shape)


class _Convolution:
    """The models are groups of one convolution."""

    def __init__(self, module: nn.Conv2d) -> None:
        self.module: nn.Conv2d = module

    def forward(self, x: Tensor, own: Tensors, samples: SampleRows) -> Tensor:
        module: Any = self.module
        self.n_models, self.x, self.weight = len(x), images(x), own["weight"].flatten(0, 1)
        bias = own["bias"].flatten() if "bias" in own else None
        self.bias_sizes = None if bias is None else [len(bias)]
        self.groups = self.n_models * module.groups
        y = F.conv2d(self.x, self.weight, bias, module.stride, module.padding, module.dilation, self.groups)
        return stacked(y, self.n_models)

    def backward(self, gradient: Tensor, into: Tensors, needs_input: bool) -> Tensor | None:
        module: Any = self.module
        wanted = [needs_input, "weight" in into, "bias" in into]
        found = torch.ops.aten.convolution_backward(
            images(gradient), self.x, self.weight, self.bias_sizes, module.stride, module.padding, module.dilation, False, [0, 0],
            self.groups, wanted,
        )  # fmt: skip
        for name, value in zip(("weight", "bias"), found[1:], strict=True):
            if name in into:
                into[name].copy_(value.view_as(into[name]))
        return stacked(found[0], self.n_models) if needs_input else None


class _FirstConvolution:
    """A convolution of the data: a product with patches that were cut once for all steps; few channels leave oneDNN little to do."""

    def __init__(self, module: nn.Conv2d) -> None:
        self.module: nn.Conv2d = module

    def forward(self, x: Tensor, own: Tensors, samples: SampleRows) -> Tensor:
        """The output from patches, ``(M, B, H, W, C * k * k)``; in memory as that of other layers of images, ``(B, H, W, M, O)``."""
        weight, self.rows = own["weight"].flatten(2).transpose(1, 2), x.flatten(1, -2)
        n_models, *shape = x.shape[:-1]
        y = x.new_empty(self.rows.shape[1], n_models, weight.shape[2])
        if "bias" in own:
            torch.baddbmm(own["bias"].unsqueeze(1), self.rows, weight, out=y.transpose(0, 1))
        else:
            torch.bmm(self.rows, weight, out=y.transpose(0, 1))
        return y.view(*shape, n_models, -1).permute(3, 0, 4, 1, 2)

    def backward(self, gradient: Tensor, into: Tensors, needs_input: bool) -> Tensor | None:
        rows = images(gradient).movedim(1, -1).reshape(self.rows.shape[1], len(gradient), -1).transpose(0, 1)
        if "weight" in into:
            into["weight"].flatten(2).copy_(torch.bmm(self.rows.transpose(1, 2), rows).transpose(1, 2))
        if "bias" in into:
            torch.sum(rows, 1, out=into["bias"])
        return None


class _MaxPool:
    def __init__(self, module: nn.MaxPool2d) -> None:
        pairs = (module.kernel_size, module.stride, module.padding, module.dilation)
        self.window = (*([each, each] if isinstance(each, int) else list(each) for each in pairs), module.ceil_mode)

    def forward(self, x: Tensor, own: Tensors, samples: SampleRows) -> Tensor:
        self.n_models, self.x = len(x), images(x)
        y, self.places = torch.ops.aten.max_pool2d_with_indices(self.x, *self.window)
        return stacked(y, self.n_models)

    def backward(self, gradient: Tensor, into: Tensors, needs_input: bool) -> Tensor | None:
        if not needs_input:
            return None
        found = torch.ops.aten.max_pool2d_with_indices_backward(images(gradient), self.x, *self.window, self.places)
        return stacked(found, self.n_models)


class _Relu:
    """In place where the layer before does not read its output again, and where nobody reads the gradient again."""

    def __init__(self) -> None:
        self.in_place = False

    def forward(self, x: Tensor, own: Tensors, samples: SampleRows) -> Tensor:
        self.y = x.relu_() if self.in_place else x.relu()
        return self.y

    def backward(self, gradient: Tensor, into: Tensors, needs_input: bool) -> Tensor | None:
        if gradient.stride() == self.y.stride():
            torch.ops.aten.threshold_backward.grad_input(gradient, self.y, 0, grad_input=gradient)
            return gradient
        found: Tensor = torch.ops.aten.threshold_backward(gradient, self.y, 0)
        return found


class _Flatten:
    def forward(self, x: Tensor, own: Tensors, samples: SampleRows) -> Tensor:
        self.shape = x.shape[2:]
        return x.flatten(2)

    def backward(self, gradient: Tensor, into: Tensors, needs_input: bool) -> Tensor | None:
        return torch.unflatten(gradient, 2, self.shape)


class _ByAutograd:
    """Any other layer or function.

    Args:
        compute: Its output from its tensors, its input and the samples.
        learnt: Local names of the tensors that get gradients.
    """

    def __init__(self, compute: Callable[[Tensors, Tensor, SampleRows], Tensor], learnt: Sequence[str] = ()) -> None:
        self.compute, self.learnt = compute, learnt

    def forward(self, x: Tensor, own: Tensors, samples: SampleRows) -> Tensor:
        self.x = x.detach().requires_grad_()
        self.own = {name: value.detach().requires_grad_(name in self.learnt) for name, value in own.items()}
        with torch.enable_grad():
            self.y = self.compute(self.own, self.x, samples)
        return self.y.detach()

    def backward(self, gradient: Tensor, into: Tensors, needs_input: bool) -> Tensor | None:
        wanted = [*(self.own[name] for name in into), *([self.x] if needs_input else [])]
        found = torch.autograd.grad(self.y, wanted, gradient)
        for name, value in zip(into, found, strict=False):
            into[name].copy_(value)
        return found[-1] if needs_input else None


class Tape:
    """The layers between a network's input and its logits.

    Args:
        program: The network, as in training.
        model: The same; parameters with ``requires_grad`` are trained.

    Raises:
        RequirementNotMet: If the network has no clear logits, or running statistics of what the loss does not depend on.
    """

    def __init__(self, program: Program, model: nn.Module) -> None:
        path = _path(program.graph)
        trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        self._layers: list[tuple[_Layer, Names, Names]] = []
        for node in path:
            names = dict(program.names[node.target]) if node.op == "call_module" else {}
            learnt = {local: name for local, name in names.items() if name in trained}
            self._layers.append((_layer(program, node, tuple(learnt)), names, learnt))
        self._first = next((number for number, (_, _, learnt) in enumerate(self._layers) if learnt), len(path))
        used = {name for _, _, learnt in self._layers for name in learnt.values()}
        self.learnt: list[str] = [name for name in trained if name in used]
        """Names of the trained parameters that the loss depends on."""
        self._has_convolutions = any(isinstance(layer, _Convolution) for layer, _, _ in self._layers)
        _refuse_beside(program, path)
        self._rectify_last()
        kept: _Layer | None = None  # the last one that makes something, rather than shows it in another shape
        for layer, *_ in self._layers:
            if isinstance(layer, _Relu):
                layer.in_place = isinstance(kept, _Linear | _Convolution | _FirstConvolution | _MaxPool)
            kept = kept if isinstance(layer, _Flatten) else layer

    def at_a_time(self, x: Tensor) -> int:
        """How many models to compute at a time for inputs ``(M, B, …)``."""
        if not self._has_convolutions:
            return len(x)
        is_large = not isinstance(self._layers[0][0], _FirstConvolution) and math.prod(x.shape[3:]) > LARGE_PICTURE
        return MODELS_WITH_LARGE_PICTURES if is_large else MODELS_WITH_CONVOLUTIONS

    def convolves(self) -> nn.Conv2d | None:
        """The first layer, if it is a convolution that could be a product with patches of the data."""
        first, _, _ = self._layers[0]
        module = first.module if isinstance(first, _Convolution) else None
        return module if module is not None and module.groups == 1 and module.dilation == (1, 1) else None

    def take_patches(self) -> None:
        """Take patches of the data, as the first layer sees them, as the input from now on."""
        first, names, learnt = self._layers[0]
        if isinstance(first, _Convolution):
            self._layers[0] = (_FirstConvolution(first.module), names, learnt)

    def _rectify_last(self) -> None:
        """Pool and flatten before a ReLU that comes first: the same numbers, of a quarter of the values and as they lie in memory."""
        for number in range(len(self._layers) - 1):
            (before, *_), (after, *_) = self._layers[number : number + 2]
            if isinstance(before, _Relu) and isinstance(after, _MaxPool | _Flatten):
                self._layers[number : number + 2] = reversed(self._layers[number : number + 2])

    @torch.no_grad()
    def differentiate(
        self, x: Tensor, tensors: Tensors, samples: SampleRows, into: Tensors, loss: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> Tensor:
        """The models' losses, ``(M,)``; the gradients of :attr:`learnt` are then in ``into``.

        Args:
            x: Inputs, ``(M, B, …)``.
            tensors: Parameters and buffers by name, each ``(M, …)``; running statistics are updated in place.
            samples: Which rows count.
            into: By name, where gradients go, each of the shape of its parameter.
            loss: Gives the models' losses and the gradient of their sum from logits ``(M, B, …)``.
        """
        value = x
        for layer, names, _ in self._layers:
            value = layer.forward(value, {local: tensors[name] for local, name in names.items()}, samples)
        losses, gradient = loss(value)
        for number in range(len(self._layers) - 1, self._first - 1, -1):
            layer, _, learnt = self._layers[number]
            found = layer.backward(gradient, {local: into[name] for local, name in learnt.items()}, number > self._first)
            gradient = gradient if found is None else found
        return losses


def _path(graph: fx.Graph) -> list[fx.Node]:
    """The nodes between input and logits. Every layer has one input, so that there is one path."""
    output = next(node for node in graph.nodes if node.op == "output")
    stands: dict[fx.Node, Tensor] = {}
    logits = logits_of(fx.node.map_arg(output.args[0], lambda node: stands.setdefault(node, torch.empty(0))))
    node = next(node for node, stand in stands.items() if stand is logits)
    path = []
    while node.op != "placeholder":
        path.append(node)
        (node,) = node.all_input_nodes
    return path[::-1]


def _refuse_beside(program: Program, path: Sequence[fx.Node]) -> None:
    for node in program.graph.nodes:
        if node.op == "call_module" and node not in path and isinstance(program.modules[node.target], _BatchNorm):
            raise RequirementNotMet("a BatchNorm keeps statistics of what the loss does not depend on")


def _layer(program: Program, node: fx.Node, learnt: Sequence[str]) -> _Layer:
    module = program.modules[node.target] if node.op == "call_module" else None
    kind = node.target if module is None else type(module)
    if kind in RELUS:
        return _Relu()
    if kind in FLATTENS:
        return _Flatten()
    if module is None:
        return _ByAutograd(lambda own, x, samples: program.called(node, x))
    if isinstance(module, nn.Conv2d) and not isinstance(module.padding, str):
        return _Convolution(module)
    if isinstance(module, nn.MaxPool2d):
        return _MaxPool(module)
    return _Linear() if kind is nn.Linear else _ByAutograd(partial(RULES[type(module)], module), learnt)
