"""Networks for token matrices: encoders of Hugging Face with a head, and a small Transformer of our own."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import MinLen
from torch import Tensor, nn
from torch.nn import functional as F

from erasure.errors import Diagnostic, InvalidParameters, MissingDependency, RequirementNotMet
from erasure.models.pretrained import pinned_digest
from erasure.training.forward import FeaturesAndHead
from erasure.training.predictor import Model, ModelInput
from erasure.training.torchvision_operators import torchvision
from erasure.types import Fraction, NonNegativeInt, PositiveInt, Source

__all__ = ["SmallTransformer", "TextEncoder", "library", "quiet"]

_BUCKET = 8
"""Lengths that batches are cut to are multiples of this, so that there are few of them."""


@dataclass(frozen=True, kw_only=True)
class TextEncoder(Model):
    """An encoder of Hugging Face, fully connected layers and an output layer, for rows of token ids.

    Samples are rows of ids, ``(length,)``, in which the padding id fills what a text leaves free, or the ids and their attention mask
    one above the other, ``(2, length)``. Padding may stand on either side: a text is moved to the front before the encoder counts
    positions. The features are the last hidden layer's, or the encoder's where there is none.

    With ``lora_rank``, the encoder's own weights stay as they are and low-rank updates of its linear maps are trained, with the head.

    Args:
        name_or_path: Folder with ``config.json`` and weights, or a name on the hub whose files are already in the local cache.
        hidden_sizes: Width of each fully connected layer with ReLU before the outputs.
        dropout: Probability of dropping a unit of those layers, or a feature where there are none, while training, in [0, 1].
        pooling: Features are the ``first`` token's, the ``last`` one's that is no padding, or the ``mean`` of all that are none; by
            default the first's, and the last's of a model that reads from left to right.
        lora_rank: Rank of the updates; None trains the whole encoder.
        lora_alpha: Updates are scaled by this over the rank; by default twice the rank.
        pretrained: Whether the encoder starts from its published weights; otherwise from random ones.
        padding_id: Token that is no part of a text; by default the encoder's own, or 0 if it has none.
        download: Whether files that are missing may be fetched from the hub.
        revision: Branch, tag or commit on the hub; name a commit where results are kept for long, since a branch may move.
        weights_sha256: SHA-256 of the folder's configuration and weights; filled in, and an error if the folder has others.
        n_classes: Classes; by default what the data has.
    """

    source: ClassVar[Source | None] = Source(
        paper="Devlin, Chang, Lee, Toutanova, NAACL 2019, arXiv:1810.04805; Hu et al., LoRA, ICLR 2022, arXiv:2106.09685",
        deviations=("The first token's last layer is read as it is, without BERT's own pooling layer.",),
    )

    name_or_path: Annotated[str, MinLen(1)] = "bert-base-uncased"
    hidden_sizes: tuple[PositiveInt, ...] = (512,)
    dropout: Fraction = 0.0
    pooling: Literal["first", "last", "mean"] | None = None
    lora_rank: PositiveInt | None = None
    lora_alpha: PositiveInt | None = None
    pretrained: bool = True
    padding_id: NonNegativeInt | None = None
    download: bool = False
    revision: Annotated[str, MinLen(1)] | None = None
    weights_sha256: Annotated[str, MinLen(64)] | None = None
    n_classes: PositiveInt | None = None

    def check(self) -> None:
        """Results are cached by what is in a folder, not by its name."""
        if self.lora_alpha is not None and self.lora_rank is None:
            raise InvalidParameters([Diagnostic("lora_alpha needs lora_rank", path="TextEncoder.lora_alpha")])
        if self._is_folder():
            digest = pinned_digest("TextEncoder.name_or_path", self.name_or_path, self.weights_sha256)
            object.__setattr__(self, "weights_sha256", digest)
        elif self.weights_sha256 is not None:
            message = f'weights_sha256 is for folders, and there is no folder "{self.name_or_path}"'
            raise InvalidParameters([Diagnostic(message, path="TextEncoder.weights_sha256", hint="on the hub, name a revision")])

    def build(self, data: ModelInput) -> nn.Module:
        """The encoder and a head with fresh weights."""
        length = _token_length(data, "TextEncoder", with_mask=True)
        n_outputs = data.outputs_for(self.n_classes)
        encoder, config = self._encoder()
        longest = getattr(config, "max_position_embeddings", None)
        if isinstance(longest, int) and 0 < longest < length:
            raise RequirementNotMet(f"{self.name_or_path} reads {longest} tokens, the data has rows of {length}; cut them")
        padding_id = self.padding_id
        if padding_id is None:
            padding_id = getattr(config, "pad_token_id", None) or 0
        width = config.hidden_size if hasattr(config, "hidden_size") else config.dim
        pooling = self.pooling or ("last" if _reads_left_to_right(encoder) else "first")
        trunk: list[nn.Module] = [_Pooled(self._adapted(encoder), padding_id, pooling)]
        for hidden in self.hidden_sizes:
            trunk += [nn.Linear(width, hidden), nn.ReLU()]
            if self.dropout:
                trunk.append(nn.Dropout(self.dropout))
            width = hidden
        if self.dropout and not self.hidden_sizes:
            trunk.append(nn.Dropout(self.dropout))
        return FeaturesAndHead(nn.Sequential(*trunk), nn.Linear(width, n_outputs))

    def _is_folder(self) -> bool:
        return Path(self.name_or_path).expanduser().is_dir()

    def _encoder(self) -> tuple[nn.Module, Any]:
        transformers = library("transformers", f'the encoder "{self.name_or_path}"')
        where = str(Path(self.name_or_path).expanduser()) if self._is_folder() else self.name_or_path
        options = {
            "local_files_only": not self.download,
            "revision": self.revision or "main",
            "trust_remote_code": False,
        }
        try:
            with quiet(transformers):
                config = transformers.AutoConfig.from_pretrained(where, **options)
                if getattr(config, "is_encoder_decoder", False):
                    raise RequirementNotMet(f"{self.name_or_path} is an encoder with a decoder; TextEncoder takes encoders only")
                if self.pretrained:
                    # A pickled file would be unpickled with weights_only, as transformers does by itself.
                    encoder, loaded = transformers.AutoModel.from_pretrained(
                        where, config=config, dtype=torch.float32, output_loading_info=True, **options
                    )
                    self._refuse_gaps(loaded)
                else:
                    encoder = transformers.AutoModel.from_config(config)
        except (OSError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            hint = "give a local folder, or set download: true" if not self.download else "see its name and the network"
            raise RequirementNotMet(f'the encoder "{self.name_or_path}" cannot be loaded: {reason}; {hint}') from error
        if self.pooling == "first" and _reads_left_to_right(encoder):
            raise RequirementNotMet(
                f"{self.name_or_path} reads from left to right: its first token knows nothing of the others; "
                'give pooling = "last" or "mean"'
            )
        if getattr(encoder, "pooler", None) is not None:
            # Its weights would never be used, and methods that look at every weight would find them without gradient.
            encoder.pooler = None
        return encoder.train(), config

    def _refuse_gaps(self, loaded: Mapping[str, Any]) -> None:
        gaps = sorted(str(name) for kind in ("missing_keys", "mismatched_keys") for name in loaded.get(kind) or ())
        gaps = [name for name in gaps if "pooler" not in name]
        if gaps:
            shown = ", ".join(gaps[:4]) + (", …" if len(gaps) > 4 else "")
            raise RequirementNotMet(
                f'the weights of the encoder "{self.name_or_path}" lack {len(gaps)} tensors of its configuration, or have them in '
                f"another shape: {shown}; give the whole model, or set pretrained: false"
            )

    def _adapted(self, encoder: nn.Module) -> nn.Module:
        if self.lora_rank is None:
            return encoder
        peft = library("peft", "lora_rank")
        settings = peft.LoraConfig(
            r=self.lora_rank, lora_alpha=self.lora_alpha or 2 * self.lora_rank, target_modules="all-linear", lora_dropout=0.0
        )
        with warnings.catch_warnings():
            # Between versions of the two libraries there is always one that the other calls deprecated.
            warnings.simplefilter("ignore", FutureWarning)
            adapted: nn.Module = peft.get_peft_model(encoder, settings).base_model.model
        for module in adapted.modules():
            # Found by whatever reinitialises layers, instead of the class's own method.
            object.__setattr__(module, "reset_parameters", _refuse_to_reset)
        return adapted


@torch.no_grad()
def _reads_left_to_right(encoder: nn.Module) -> bool:
    """Whether what stands behind a token makes no difference to it, as in decoders; tried, because configurations do not say it."""
    trains = encoder.training
    encoder.eval()
    ids = torch.tensor([[1, 2, 3], [1, 3, 2]])
    states: Tensor = encoder(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
    encoder.train(trains)
    return torch.allclose(states[0, 0], states[1, 0], rtol=1e-6, atol=1e-7)


class _Pooled(nn.Module):
    """One vector for each row of tokens."""

    def __init__(self, encoder: nn.Module, padding_id: int, pooling: str) -> None:
        super().__init__()
        self.encoder, self.padding_id, self.pooling = encoder, padding_id, pooling

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(B, d)`` of token ids ``(B, L)``, or of ids and mask ``(B, 2, L)``."""
        if x.ndim == 3:
            ids, real = x[:, 0], x[:, 1] != 0
        else:
            ids, real = x, x != self.padding_id
        ids, real = _from_the_front(ids, real)
        n_tokens = _longest(real)
        ids, real = ids[:, :n_tokens], _somewhere(real[:, :n_tokens])
        states: Tensor = self.encoder(input_ids=ids, attention_mask=real.to(ids.dtype)).last_hidden_state
        if self.pooling == "last":
            last = (real * torch.arange(1, real.shape[1] + 1, device=real.device)).argmax(1)
            return states.gather(1, last[:, None, None].expand(-1, 1, states.shape[2]))[:, 0]
        return states[:, 0] if self.pooling == "first" else _mean(states, real)


@dataclass(frozen=True, kw_only=True)
class SmallTransformer(Model):
    """A Transformer encoder with learned positions, averaged over the tokens that are no padding, for rows of token ids.

    Normalisation comes before attention and perceptron, and once more at the end. The features are the average; how much padding a
    row has makes no difference.

    Args:
        n_tokens: Size of the vocabulary: token ids are below it.
        width: Of the embeddings and of every layer.
        n_layers: Layers of attention and perceptron.
        n_heads: Attention heads; they share the width.
        dropout: Probability of dropping a unit of the embeddings and of each layer's output while training, in [0, 1].
        padding_id: Token that is no part of a text.
        n_classes: Classes; by default what the data has.
    """

    source: ClassVar[Source | None] = Source(paper="Vaswani et al., NeurIPS 2017, arXiv:1706.03762")

    n_tokens: PositiveInt = 30522
    width: PositiveInt = 64
    n_layers: NonNegativeInt = 2
    n_heads: PositiveInt = 4
    dropout: Fraction = 0.0
    padding_id: NonNegativeInt = 0
    n_classes: PositiveInt | None = None

    def check(self) -> None:
        """Heads share the width."""
        if self.width % self.n_heads:
            message = f"{self.n_heads} heads cannot share a width of {self.width}"
            raise InvalidParameters([Diagnostic(message, path="SmallTransformer.n_heads", hint="take a divisor of width")])

    def build(self, data: ModelInput) -> nn.Module:
        """The network with fresh weights."""
        length = _token_length(data, "SmallTransformer")
        return FeaturesAndHead(_Transformer(self, length), nn.Linear(self.width, data.outputs_for(self.n_classes)))


class _Transformer(nn.Module):
    def __init__(self, settings: SmallTransformer, length: int) -> None:
        super().__init__()
        self.padding_id = settings.padding_id
        self.tokens = nn.Embedding(settings.n_tokens, settings.width)
        self.positions = nn.Embedding(length, settings.width)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, std=0.02)
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(_Layer(settings) for _ in range(settings.n_layers))
        self.norm = nn.LayerNorm(settings.width)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(B, width)`` of token ids ``(B, L)``."""
        if x.device.type == "cpu" and x.numel() and int(x.max()) >= self.tokens.num_embeddings:
            raise RequirementNotMet(
                f"a token id is {int(x.max())}; n_tokens = {self.tokens.num_embeddings} allows smaller ones only"
            )
        x, real = _from_the_front(x, x != self.padding_id)
        n_tokens = _longest(real)
        x, real = x[:, :n_tokens], _somewhere(real[:, :n_tokens])
        h = self.dropout(self.tokens(x) + self.positions.weight[: x.shape[1]])
        for layer in self.layers:
            h = layer(h, real)
        return _mean(self.norm(h), real)


class _Layer(nn.Module):
    def __init__(self, settings: SmallTransformer) -> None:
        super().__init__()
        width, self.n_heads = settings.width, settings.n_heads
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, h: Tensor, real: Tensor) -> Tensor:
        """States ``(B, L, width)`` after the layer; attention goes to real tokens only."""
        parts = self.queries_keys_values(self.norm_attention(h)).unflatten(-1, (3, self.n_heads, -1))
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=real[:, None, None, :])
        h = h + self.dropout(self.mixed(attended.transpose(1, 2).flatten(2)))
        out: Tensor = h + self.dropout(self.mlp(self.norm_mlp(h)))
        return out


def _refuse_to_reset() -> None:
    raise RequirementNotMet("an encoder under LoRA keeps its weights, so only the layers of the head can be reinitialised")


def _from_the_front(ids: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Ids and mask with the padding before each row's first token moved behind the row; positions are counted from the first token."""
    places = torch.arange(real.shape[1], device=real.device) + real.to(torch.uint8).argmax(1, keepdim=True)
    places = places % real.shape[1]
    return ids.gather(1, places), real.gather(1, places)


def _longest(real: Tensor) -> int:
    """How many columns hold every token of a batch, in steps of eight; what is right of them is padding and only costs time."""
    length = real.shape[1]
    try:
        # One wait for the device in a pass, which the attention that is spared repays many times.
        last = int((real.any(0) * torch.arange(1, length + 1, device=real.device)).max()) if real.numel() else length
    except RuntimeError:  # under torch.func.vmap a batch has no length of its own
        return length
    return min(length, max(_BUCKET, -(-last // _BUCKET) * _BUCKET))


def _somewhere(real: Tensor) -> Tensor:
    """The mask, with the first token of a row of padding: attention to nothing has no value."""
    first = F.pad(torch.ones_like(real[:, :1]), (0, real.shape[1] - 1))
    return real | (first & ~real.any(1, keepdim=True))


def _mean(states: Tensor, real: Tensor) -> Tensor:
    weight = real.to(states.dtype).unsqueeze(-1)
    return (states * weight).sum(1) / weight.sum(1)


def _token_length(data: ModelInput, name: str, *, with_mask: bool = False) -> int:
    fits = len(data.x_shape) == 1 or (with_mask and len(data.x_shape) == 2 and data.x_shape[0] == 2)
    if data.modality != "text" or not fits:
        raise RequirementNotMet(
            f"{name} takes rows of token ids; the data is of the kind {data.modality}, its samples of shape {data.x_shape}"
        )
    return data.x_shape[-1]


@contextmanager
def quiet(transformers: Any) -> Iterator[None]:
    """Loading without transformers' progress bar and its reports on heads that are not used."""
    logging = transformers.utils.logging
    verbosity, has_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if has_bar:
            logging.enable_progress_bar()


def library(name: str, purpose: str) -> Any:
    """A library of Hugging Face, imported where torchvision's operators may not load.

    Raises:
        MissingDependency: If it is not installed; names the extra.
    """
    # transformers imports torchvision where it is installed, whose operators may not load beside this build of torch.
    with suppress(MissingDependency):
        torchvision("transforms", purpose)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            raise MissingDependency(name, "text", purpose) from error
