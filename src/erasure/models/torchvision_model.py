"""Networks for images from torchvision: ResNets and every other classifier of ``torchvision.models``."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import MinLen
from torch import nn

from erasure.errors import RequirementNotMet, nearest
from erasure.models.pretrained import holds_finished, load_weights, pinned_digest
from erasure.training.forward import FeaturesAndHead
from erasure.training.predictor import Model, ModelInput
from erasure.training.torchvision_operators import torchvision
from erasure.types import Fraction, PositiveInt, Source

__all__ = ["TorchVisionModel"]

_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


@dataclass(frozen=True, kw_only=True)
class TorchVisionModel(Model):
    """A classifier of ``torchvision.models``, with input channels and outputs as the data has them.

    The features are what the output layer reads: the hidden layer if there is one, otherwise the network's last pooled layer.
    Nothing is downloaded; without ``weights`` the network starts from random ones.

    A ResNet with the ImageNet stem makes a map of one pixel of images up to 32×32, of which BatchNorm cannot train on a single sample;
    the small stem is meant for them.

    Args:
        name: As in ``torchvision.models``, such as ``resnet18``, ``resnet50`` or ``vit_b_16``.
        stem: ``imagenet`` leaves it as published; ``small`` gives a ResNet a 3×3 convolution without stride and no pooling.
        hidden: Width of a hidden layer with ReLU before the outputs; None for none.
        dropout: Probability of dropping a unit of that layer while training, in [0, 1].
        weights: Local file with the network's weights, ``.safetensors`` or written by ``torch.save``. Its output layer is taken only
            where there is no hidden layer and it has as many classes as the data; of images with one channel the stem is the sum of
            the file's over its channels.
            Weights that a run has kept are taken whole, output layer included.
        weights_sha256: SHA-256 of that file; filled in, and an error if the file has another.
        n_classes: Classes; by default what the data has.
    """

    source: ClassVar[Source | None] = Source(
        paper="He, Zhang, Ren, Sun, CVPR 2016, arXiv:1512.03385",
        deviations=("SqueezeNet's outputs are a linear layer on the pooled features, without the ReLU after it.",),
    )

    name: Annotated[str, MinLen(1)] = "resnet18"
    stem: Literal["imagenet", "small"] = "imagenet"
    hidden: PositiveInt | None = None
    dropout: Fraction = 0.0
    weights: Annotated[str, MinLen(1)] | None = None
    weights_sha256: Annotated[str, MinLen(64)] | None = None
    n_classes: PositiveInt | None = None

    def check(self) -> None:
        """The file of weights is there, and its content is part of what results are cached by."""
        if self.weights is not None:
            digest = pinned_digest("TorchVisionModel.weights", self.weights, self.weights_sha256)
            object.__setattr__(self, "weights_sha256", digest)

    def build(self, data: ModelInput) -> nn.Module:
        """The network with fresh weights, or those of the file."""
        if len(data.x_shape) != 3:
            raise RequirementNotMet(
                f"{self.name} takes images (channels, height, width); the data has samples of shape {data.x_shape}"
            )
        n_outputs = data.outputs_for(self.n_classes)
        network = self._network(data, n_outputs)
        stem = self._fit_stem(network, data.x_shape[0])
        head, layer = _output_layer(network, n_outputs)
        is_finished = self.weights is not None and holds_finished(self.weights)
        if self.weights is not None and not is_finished:
            load_weights(network, self.weights, head=head, stem=stem, dropped=_AUXILIARY)
        network.set_submodule(head, nn.Identity())
        if isinstance(layer, nn.Conv2d):
            # SqueezeNet alone pools after its output layer.
            layer = _as_linear(layer)
        finished = with_hidden(network, layer, self.hidden, self.dropout)
        if self.weights is not None and is_finished:
            load_weights(finished, self.weights, head="head")
        return finished

    def _network(self, data: ModelInput, n_outputs: int) -> nn.Module:
        models = torchvision("models", f'the model "{self.name}"')
        names = models.list_models(module=models)
        if self.name not in names:
            hint = nearest(self.name, names)
            raise RequirementNotMet(f'torchvision.models has no classifier "{self.name}"{f"; {hint}" if hint else ""}')
        extra: dict[str, Any] = {}
        if self.name in {"googlenet", "inception_v3"}:
            extra = {"aux_logits": False, "init_weights": True}
        elif self.name.startswith("vit_"):
            extra = {"image_size": data.x_shape[1]}
        elif self.name.startswith("maxvit"):
            extra = {"input_size": data.x_shape[1:]}
        try:
            network: nn.Module = models.get_model(self.name, weights=None, num_classes=n_outputs, **extra)
        except (RuntimeError, ValueError, AssertionError) as error:
            size = "x".join(map(str, data.x_shape[1:]))
            raise RequirementNotMet(f"{self.name} cannot be made for images of {size}: {error}") from error
        return network

    def _fit_stem(self, network: nn.Module, n_channels: int) -> str:
        """Give the first convolution the data's channels and, if asked, the small form; returns its name."""
        stem, conv = next(each for each in network.named_modules() if isinstance(each[1], nn.Conv2d))
        assert isinstance(conv, nn.Conv2d)  # noqa: S101 (for the type checker)
        if self.stem == "small":
            if not isinstance(getattr(network, "maxpool", None), nn.MaxPool2d) or stem != "conv1":
                raise RequirementNotMet(f'stem = "small" is for ResNets; {self.name} has no stem of their kind')
            network.set_submodule("maxpool", nn.Identity())
            new = nn.Conv2d(n_channels, conv.out_channels, 3, padding=1, bias=False)
        elif conv.in_channels == n_channels:
            return str(stem)
        else:
            new = copy.deepcopy(conv)
            new.in_channels = n_channels
            new.weight = nn.Parameter(conv.weight.new_empty(conv.out_channels, n_channels, *conv.weight.shape[2:]))
        nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
        network.set_submodule(stem, new)
        return str(stem)


def with_hidden(network: nn.Module, layer: nn.Linear, hidden: int | None, dropout: float) -> nn.Module:
    """A network without outputs, its output layer, and between them a hidden layer if one is asked for."""
    if hidden is None:
        if dropout:
            return FeaturesAndHead(nn.Sequential(network, nn.Dropout(dropout)), layer)
        return FeaturesAndHead(network, layer)
    layers: list[nn.Module] = [network, nn.Linear(layer.in_features, hidden), nn.ReLU()]
    if dropout:
        layers.append(nn.Dropout(dropout))
    return FeaturesAndHead(nn.Sequential(*layers), nn.Linear(hidden, layer.out_features))


def _output_layer(network: nn.Module, n_outputs: int) -> tuple[str, Any]:
    layers = [(name, each) for name, each in network.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)]
    name, layer = layers[-1]
    width = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    if width != n_outputs:
        raise RequirementNotMet(f"{type(network).__name__} does not end in a layer that gives its {n_outputs} outputs")
    return name, layer


def _as_linear(conv: nn.Conv2d) -> nn.Linear:
    linear = nn.Linear(conv.in_channels, conv.out_channels)
    linear.weight.data.copy_(conv.weight.data.flatten(1))
    if conv.bias is not None:
        linear.bias.data.copy_(conv.bias.data)
    return linear
