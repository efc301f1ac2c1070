"""Networks for images from timm, by name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import MinLen
from torch import nn

from erasure.errors import Diagnostic, InvalidParameters, MissingDependency, RequirementNotMet, nearest
from erasure.models.pretrained import holds_finished, load_weights, pinned_digest
from erasure.models.torchvision_model import with_hidden
from erasure.training.predictor import Model, ModelInput
from erasure.training.torchvision_operators import torchvision
from erasure.types import Fraction, PositiveInt, Source

__all__ = ["TimmModel"]


@dataclass(frozen=True, kw_only=True)
class TimmModel(Model):
    """A classifier of timm, with input channels, image size and outputs as the data has them.

    The features are what the output layer reads: the hidden layer if there is one, otherwise the network's pooled features before its
    classifier. Nothing is downloaded; without ``weights`` the network starts from random ones.

    Args:
        name: As in ``timm.list_models()``, such as ``resnet18``, ``vit_tiny_patch16_224`` or ``convnext_atto``.
        hidden: Width of a hidden layer with ReLU before the outputs; None for none.
        dropout: Probability of dropping a feature before the outputs while training, in [0, 1].
        weights: Local file with the network's weights, ``.safetensors`` or written by ``torch.save``. Its output layer is taken only
            where there is no hidden layer and it has as many classes as the data; of images with one channel the stem is the sum of
            the file's over its channels. A network that is made for one image size must be given that size.
            Weights that a run has kept are taken whole, output layer included.
        weights_sha256: SHA-256 of that file; filled in, and an error if the file has another.
        n_classes: Classes; by default what the data has.
    """

    source: ClassVar[Source | None] = Source(paper="Wightman, PyTorch Image Models, 2019, doi:10.5281/zenodo.4414861")

    name: Annotated[str, MinLen(1)]
    hidden: PositiveInt | None = None
    dropout: Fraction = 0.0
    weights: Annotated[str, MinLen(1)] | None = None
    weights_sha256: Annotated[str, MinLen(64)] | None = None
    n_classes: PositiveInt | None = None

    def check(self) -> None:
        """A plain name, and a file of weights that is there."""
        if ":" in self.name or "/" in self.name:
            hint = "give the network's own name and its weights as a local file"
            raise InvalidParameters(
                [Diagnostic(f'"{self.name}" would be downloaded, expected a name of timm', path="TimmModel.name", hint=hint)]
            )
        if self.weights is not None:
            object.__setattr__(self, "weights_sha256", pinned_digest("TimmModel.weights", self.weights, self.weights_sha256))

    def build(self, data: ModelInput) -> nn.Module:
        """The network with fresh weights, or those of the file."""
        if len(data.x_shape) != 3:
            raise RequirementNotMet(
                f"{self.name} takes images (channels, height, width); the data has samples of shape {data.x_shape}"
            )
        n_outputs = data.outputs_for(self.n_classes)
        network = self._network(data, n_outputs)
        heads = _names(network.pretrained_cfg.get("classifier"))
        layer = network.get_classifier()
        if not isinstance(layer, nn.Linear):
            # Several output layers, or a module that does more: one linear layer takes their place.
            network.reset_classifier(0)
            layer = nn.Linear(getattr(network, "head_hidden_size", network.num_features), n_outputs)
        is_finished = self.weights is not None and holds_finished(self.weights)
        if self.weights is not None and not is_finished:
            own = next((name for name, each in network.named_modules() if each is layer), "")
            stem = next((name for name, each in network.named_modules() if isinstance(each, nn.Conv2d)), "")
            load_weights(network, self.weights, head=own, stem=stem, dropped=() if own else tuple(f"{name}." for name in heads))
        network.reset_classifier(0)
        finished = with_hidden(network, layer, self.hidden, self.dropout)
        if self.weights is not None and is_finished:
            load_weights(finished, self.weights, head="head")
        return finished

    def _network(self, data: ModelInput, n_outputs: int) -> Any:
        timm = _timm(f'the model "{self.name}"')
        if not timm.is_model(self.name):
            hint = nearest(self.name, timm.list_models())
            raise RequirementNotMet(f'timm has no model "{self.name}"{f"; {hint}" if hint else ""}')
        settings: dict[str, Any] = {"in_chans": data.x_shape[0], "num_classes": n_outputs}
        settings_of_file = timm.get_pretrained_cfg(self.name, allow_unregistered=True)
        if settings_of_file is not None and settings_of_file.fixed_input_size:
            settings["img_size"] = data.x_shape[1:]
        try:
            return timm.create_model(self.name, pretrained=False, **settings)
        except (RuntimeError, ValueError, TypeError, AssertionError, ZeroDivisionError) as error:
            size = "x".join(map(str, data.x_shape))
            raise RequirementNotMet(f"{self.name} cannot be made for images of {size}: {error}") from error


def _timm(purpose: str) -> Any:
    # timm imports torchvision, whose operators may not load beside this build of torch.
    torchvision("models", purpose)
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise MissingDependency("timm", "vision", purpose) from error


def _names(classifier: Any) -> tuple[str, ...]:
    return (classifier,) if isinstance(classifier, str) else tuple(classifier or ())
