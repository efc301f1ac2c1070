"""Causal language models that answer prompts: those of Hugging Face, and a small Llama that starts from nothing."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from annotated_types import MinLen
from safetensors import SafetensorError
from torch import Tensor, nn

from erasure.errors import DataError, Diagnostic, InvalidParameters, RequirementNotMet
from erasure.functional.chunked_losses import chunked_token_losses, may_be_chunked
from erasure.functional.tokens import PADDING, PROMPT, labelled, token_losses
from erasure.models.adapters import check_adapter, check_is_no_adapter, looks_like_a_place, merged
from erasure.models.lean_layers import lean
from erasure.models.lengths import parts_by_length
from erasure.models.pretrained import pinned_digest
from erasure.models.text import library, quiet
from erasure.training.predictor import Model, ModelInput
from erasure.training.tokenizers import pieces_of, pretrained_tokenizer
from erasure.types import PositiveInt, Source

__all__ = ["AnsweringNetwork", "CausalLanguageModel", "SmallLlama"]

LARGE_VOCABULARY = 2**14
"""From here on logits take more memory than what is kept of a block; smaller networks keep the sums they have always had."""


class AnsweringNetwork(nn.Module):
    """A causal language model that gives logits for the tokens of answers alone.

    Inputs are tokens and roles, ``(B, 2 V, L)``, of which the first version is read. The output layer, over the whole vocabulary, is run at
    the positions that predict a token of the answer; prompts and padding cost no logits. Padding stands on the right, where causal
    attention never looks, so that it makes no difference to any logit.

    Args:
        network: A causal language model of transformers.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self._is_plain: bool | None = None
        _ = self.is_plain  # tried here, so that a call is one call of the network

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits ``(B, T, K)`` for the longest answer's T tokens; those after the end of a shorter one mean nothing.

        With the answers' tokens ``(B, T)`` the loss of each, ``(B, T)``, as of :func:`erasure.functional.tokens.token_losses`.
        """
        with lean(self.network) if self.training else nullcontext():
            states, is_last = self._before_head(x)
        if y is None:
            return self._head(states) if is_last else states
        chosen = y[:, : states.shape[1]]
        if not (is_last and self.gives_losses and may_be_chunked()):
            return token_losses(self._head(states) if is_last else states, chosen)
        head: Any = self.network.get_output_embeddings()  # type: ignore[operator]
        is_token = labelled(chosen)
        losses = chunked_token_losses(states[is_token], head.weight, head.bias, chosen[is_token])
        return losses.new_zeros(chosen.shape).masked_scatter(is_token, losses)

    @property
    def gives_losses(self) -> bool:
        """Whether losses of tokens are better asked for than computed from logits: where the vocabulary is large."""
        head: Any = self.network.get_output_embeddings()  # type: ignore[operator]
        is_large = self.is_plain and type(head) is nn.Linear and head.out_features >= LARGE_VOCABULARY
        # A layer that is listened to is called, and weights of another type, such as shards, are put together when it is.
        return is_large and type(head.weight) is nn.Parameter and not (head._forward_hooks or head._forward_pre_hooks)

    def _before_head(self, x: Tensor) -> tuple[Tensor, bool]:
        """States that predict tokens of answers, ``(B, T, d)``, or their logits, and whether they are states."""
        ids, roles = x[:, 0], x[:, 1]
        lengths = (roles != PADDING).sum(1)
        n_before = (roles == PROMPT).sum(1)
        if not len(x):
            return self._states(torch.zeros(1, 1, dtype=torch.int64, device=x.device))[:0], True
        length, n_tokens = (int(n) for n in torch.stack([lengths.max(), (lengths - n_before).max()]).tolist())
        offsets = torch.arange(n_tokens, device=x.device)
        # The token at a position is predicted at the one before.
        places = (n_before.unsqueeze(1) - 1 + offsets).clamp(0, length - 1)
        ids = ids[:, :length]
        if not self.is_plain:
            logits: Tensor = self.network(input_ids=ids, use_cache=False).logits
            return logits.gather(1, places.unsqueeze(-1).expand(-1, -1, logits.shape[-1])), False
        parts = parts_by_length(lengths.tolist()) if self._may_be_parted(x) else None
        if parts is None:
            return self._states_at(ids, places), True
        found = [self._states_at(ids[rows, : int(lengths[rows[-1]])], places[rows]) for rows in parts]
        order = torch.tensor([*parts[0], *parts[1]], device=x.device)
        return torch.cat(found).index_select(0, order.argsort()), True

    def _may_be_parted(self, x: Tensor) -> bool:
        """Whether a batch may go through the network in two parts: of a large one on the CPU, if nobody listens to its layers."""
        is_large = self.gives_losses and x.device.type == "cpu"
        return is_large and not any(module._forward_hooks or module._forward_pre_hooks for module in self.network.modules())

    def _states_at(self, ids: Tensor, places: Tensor) -> Tensor:
        """Last states at some positions, ``(B, T, d)``; places beyond the longest sample are the last one."""
        states = self._states(ids)
        return states.gather(1, places.clamp_max(ids.shape[1] - 1).unsqueeze(-1).expand(-1, -1, states.shape[-1]))

    def everywhere(self, x: Tensor, padding: int) -> Tensor:
        """Logits ``(B, L, K)`` at every position, prompts and padding included, as other frameworks compute them.

        Args:
            x: Tokens and roles, ``(B, 2 V, L)``.
            padding: The token that stands for padding, masked but run through the network.
        """
        is_real = x[:, 1] != PADDING
        length = int(is_real.sum(1).max())
        ids = torch.where(is_real, x[:, 0], padding)[:, :length]
        logits: Tensor = self.network(input_ids=ids, attention_mask=is_real[:, :length].to(torch.int64), use_cache=False).logits
        return logits

    @property
    def is_plain(self) -> bool:
        """Whether logits are the output layer's of the last states and nothing else, tried once on two tokens."""
        if self._is_plain is None:
            modes = [(module, module.training) for module in self.network.modules()]
            self.network.eval()
            device = next(self.network.parameters()).device
            ids = torch.tensor([[0, 1]], device=device)
            with torch.no_grad():
                whole: Tensor = self.network(input_ids=ids, use_cache=False).logits
                parts = self._head(self._states(ids))
            self._is_plain = whole.shape == parts.shape and torch.allclose(whole, parts, rtol=1e-3, atol=1e-5)
            for module, training in modes:
                module.training = training
        return self._is_plain

    def _states(self, ids: Tensor) -> Tensor:
        base: Any = self.network.base_model
        states: Tensor = base(input_ids=ids, use_cache=False).last_hidden_state
        return states

    def _head(self, states: Tensor) -> Tensor:
        head: Any = self.network.get_output_embeddings()  # type: ignore[operator]
        logits: Tensor = head(states)
        return logits

    @property
    def blocks(self) -> nn.ModuleList:
        """The blocks between embeddings and output layer, in their order."""
        found = [module for module in self.network.modules() if isinstance(module, nn.ModuleList)]
        if not found:
            raise RequirementNotMet("the language model has no list of blocks")
        return max(found, key=len)

    @property
    def context(self) -> int | None:
        """Tokens that the model reads, if its configuration says so."""
        config: Any = self.network.config
        return _context(config)

    @torch.no_grad()
    def generate(self, x: Tensor, *, end: int | None, max_new_tokens: int) -> list[list[int]]:
        """Answers to the prompts of some samples, each the most likely token after the other, up to its end.

        Prompts stand on the right here, padded on the left with a mask, so that all answers start at one place. An answer goes no further
        than the model reads.

        Args:
            x: Tokens and roles, ``(B, 2 V, L)``.
            end: The token that ends an answer; None where answers go on as long as they may.
            max_new_tokens: Tokens of an answer at most.

        Returns:
            Tokens of each answer without its end.
        """
        lengths = (x[:, 1] == PROMPT).sum(1)
        room = torch.full_like(lengths, max_new_tokens)
        if self.context is not None:
            room = room.minimum(self.context - lengths).clamp_min(0)
        answers: list[list[int]] = [[] for _ in range(len(x))]
        for n_tokens in sorted(set(room.tolist()) - {0}):
            chosen = (room == n_tokens).nonzero().squeeze(1)
            for row, said in zip(chosen.tolist(), self._continued(x[chosen], end, n_tokens), strict=True):
                answers[row] = said
        return answers

    def _continued(self, x: Tensor, end: int | None, n_tokens: int) -> list[list[int]]:
        """Answers of at most ``n_tokens`` tokens."""
        ids, lengths = x[:, 0], (x[:, 1] == PROMPT).sum(1)
        width = int(lengths.max())
        places = torch.arange(width, device=x.device) - (width - lengths).unsqueeze(1)
        mask = (places >= 0).to(torch.int64)
        prompts = ids.gather(1, places.clamp_min(0)) * mask
        network: Any = self.network
        modes = [(module, module.training) for module in network.modules()]
        network.eval()
        # What a folder asks for beside, such as a penalty for words said before, would not give the most likely token.
        asked, padding = network.generation_config, 0 if end is None else end
        plain = type(asked)(max_new_tokens=n_tokens, do_sample=False, num_beams=1, pad_token_id=padding, eos_token_id=end)
        network.generation_config = type(asked)()
        try:
            found: Tensor = network.generate(input_ids=prompts, attention_mask=mask, generation_config=plain)
        finally:
            network.generation_config = asked
        for module, training in modes:
            module.training = training
        answers = found[:, width:].tolist()
        return [row[: row.index(end)] if end in row else row for row in answers]


@dataclass(frozen=True, kw_only=True)
class CausalLanguageModel(Model):
    """A causal language model of Hugging Face for prompts and answers.

    With ``lora_rank`` its own weights stay as they are and low-rank updates of its linear maps are trained.

    Args:
        name_or_path: Folder with ``config.json`` and weights, a GGUF file, or a name on the hub whose files are already in the local cache.
        pretrained: Whether it starts from its published weights; otherwise from random ones.
        adapter: Folder of low-rank updates that peft has saved; they become part of the weights before anything else.
        lora_rank: Rank of the updates; None trains the whole model.
        lora_alpha: Updates are scaled by this over the rank; by default twice the rank.
        dtype: Of the weights; updates are always float32.
        checkpointing: Whether activations are computed again in the backward pass, which takes less memory and more time.
        download: Whether files that are missing may be fetched from the hub.
        revision: Branch, tag or commit on the hub.
        weights_sha256: SHA-256 of the folder's configuration and weights, or of the file; filled in, and an error if it has others.
        adapter_sha256: The same of the adapter.
    """

    source: ClassVar[Source | None] = Source(
        paper="Touvron et al., 2023, arXiv:2302.13971; Hu et al., LoRA, ICLR 2022, arXiv:2106.09685"
    )

    name_or_path: Annotated[str, MinLen(1)]
    pretrained: bool = True
    adapter: Annotated[str, MinLen(1)] | None = None
    lora_rank: PositiveInt | None = None
    lora_alpha: PositiveInt | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    checkpointing: bool = False
    download: bool = False
    revision: Annotated[str, MinLen(1)] | None = None
    weights_sha256: Annotated[str, MinLen(64)] | None = None
    adapter_sha256: Annotated[str, MinLen(64)] | None = None

    def check(self) -> None:
        """Results are cached by what is in a folder, not by its name."""
        if self.lora_alpha is not None and self.lora_rank is None:
            raise InvalidParameters([Diagnostic("lora_alpha needs lora_rank", path="CausalLanguageModel.lora_alpha")])
        if self.adapter is not None:
            check_adapter(self.adapter, self.name_or_path)
            digest = pinned_digest("CausalLanguageModel.adapter", self.adapter, self.adapter_sha256)
            object.__setattr__(self, "adapter_sha256", digest)
        if self._is_on_disk():
            if self._is_folder():
                check_is_no_adapter(self.name_or_path)
            digest = pinned_digest("CausalLanguageModel.name_or_path", self.name_or_path, self.weights_sha256)
            object.__setattr__(self, "weights_sha256", digest)
        elif looks_like_a_place(self.name_or_path):
            message = f'there is no folder and no file "{self.name_or_path}"'
            raise InvalidParameters([Diagnostic(message, path="CausalLanguageModel.name_or_path")])
        elif self.weights_sha256 is not None:
            message = f'weights_sha256 is for folders, and there is no folder "{self.name_or_path}"'
            raise InvalidParameters([Diagnostic(message, path="CausalLanguageModel.weights_sha256")])

    def refuse(self, data: ModelInput) -> str | None:
        """The data must be written in the model's own tokens: its weights know no others."""
        if not self.pretrained or data.task != "generation":
            return None
        try:
            own = pieces_of(pretrained_tokenizer(self.name_or_path, self.download))
        except DataError:
            n_known = self._n_known()
            if n_known == data.n_classes:
                return None
            return (
                f"{self.name_or_path} knows {n_known} tokens, the data has {data.n_classes}, and the model has no tokenizer by which the "
                "two could be compared; save it there too, with tokenizer.save_pretrained"
            )
        return _foreign_token(own, data.token_names, self.name_or_path)

    def build(self, data: ModelInput) -> nn.Module:
        """The model, with fresh updates under LoRA."""
        _require_answers(data, "CausalLanguageModel")
        network, config = self._network()
        known = int(config.get_text_config().vocab_size)
        if known < data.n_classes:
            raise RequirementNotMet(
                f"{self.name_or_path} knows {known} tokens, the data has {data.n_classes}; give the source the vocabulary of the model"
            )
        _require_context(config, data, self.name_or_path)
        if self.checkpointing:
            # Newer versions of transformers warn of the older name.
            enable = getattr(network, "activation_checkpointing_enable", None) or network.gradient_checkpointing_enable
            enable({"use_reentrant": False})
        if self.lora_rank is not None:
            network = _adapted(network, self.lora_rank, self.lora_alpha or 2 * self.lora_rank)
        return AnsweringNetwork(network.train())

    def _is_folder(self) -> bool:
        return Path(self.name_or_path).expanduser().is_dir()

    def _is_on_disk(self) -> bool:
        return Path(self.name_or_path).expanduser().exists()

    @contextmanager
    def _loading(self) -> Iterator[tuple[Any, str, dict[str, Any]]]:
        """The library, where it finds the model, and how; what goes wrong meanwhile becomes one sentence."""
        transformers = library("transformers", f'the language model "{self.name_or_path}"')
        place = Path(self.name_or_path).expanduser()
        where = str(place) if self._is_folder() else self.name_or_path
        options: dict[str, Any] = {
            "local_files_only": not self.download,
            "revision": self.revision or "main",
            "trust_remote_code": False,
        }
        if place.is_file():
            where, options["gguf_file"] = str(place.parent), place.name
        try:
            with quiet(transformers):
                yield transformers, where, options
        except (OSError, ValueError, ImportError, LookupError, RuntimeError, SafetensorError, struct.error) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            if "ignore_mismatched_sizes" in reason:
                reason = "its weights are of other shapes than its configuration says"
            hint = "see its name and the network" if self.download else "give a local folder, or set download: true"
            if self._is_on_disk():
                hint = "see whether its files are whole, and which libraries they need"
            raise RequirementNotMet(f'the language model "{self.name_or_path}" cannot be loaded: {reason}; {hint}') from error

    def _n_known(self) -> int:
        with self._loading() as (transformers, where, options):
            return int(transformers.AutoConfig.from_pretrained(where, **options).get_text_config().vocab_size)

    def _network(self) -> tuple[Any, Any]:
        dtype = getattr(torch, self.dtype)
        with self._loading() as (transformers, where, options):
            config = transformers.AutoConfig.from_pretrained(where, **options)
            if not self.pretrained:
                return transformers.AutoModelForCausalLM.from_config(config, dtype=dtype), config
            if "gguf_file" in options and hasattr(transformers, "GgufConfig"):
                # Packed weights, which newer versions keep where they can, cannot be trained.
                options["quantization_config"] = transformers.GgufConfig(dequantize=True)
            network, loaded = transformers.AutoModelForCausalLM.from_pretrained(
                where, config=config, dtype=dtype, output_loading_info=True, **options
            )
        gaps = sorted(str(name) for kind in ("missing_keys", "mismatched_keys") for name in loaded.get(kind) or ())
        if gaps:
            raise RequirementNotMet(
                f'the weights of the language model "{self.name_or_path}" lack {len(gaps)} tensors of its configuration: '
                f"{', '.join(gaps[:4])}; give the whole model, or set pretrained: false"
            )
        return network if self.adapter is None else merged(network, self.adapter), config


@dataclass(frozen=True, kw_only=True)
class SmallLlama(Model):
    """A Llama that starts from random weights, for prompts and answers; its vocabulary is that of the data.

    Args:
        width: Of the embeddings and of every block.
        n_layers: Blocks.
        n_heads: Attention heads; they share the width.
        hidden_size: Width of the perceptrons; by default three times the width.
        context: Longest sample in tokens; by default as long as those of the data.
        tied: Whether the output layer has the weights of the embeddings.
        lora_rank: Rank of low-rank updates, which alone are trained; None trains the whole model.
    """

    source: ClassVar[Source | None] = Source(paper="Touvron et al., 2023, arXiv:2302.13971")

    width: PositiveInt = 128
    n_layers: PositiveInt = 4
    n_heads: PositiveInt = 4
    hidden_size: PositiveInt | None = None
    context: PositiveInt | None = None
    tied: bool = True
    lora_rank: PositiveInt | None = None

    def check(self) -> None:
        """Heads share the width, in pairs of numbers that positions turn."""
        if self.width % (2 * self.n_heads):
            message = f"{self.n_heads} heads cannot share a width of {self.width} evenly"
            raise InvalidParameters([Diagnostic(message, path="SmallLlama.n_heads", hint="take a divisor of half the width")])

    def build(self, data: ModelInput) -> nn.Module:
        """The network with fresh weights."""
        _require_answers(data, "SmallLlama")
        transformers = library("transformers", "SmallLlama")
        config = transformers.LlamaConfig(
            vocab_size=data.n_classes,
            hidden_size=self.width,
            intermediate_size=self.hidden_size or 3 * self.width,
            num_hidden_layers=self.n_layers,
            num_attention_heads=self.n_heads,
            num_key_value_heads=self.n_heads,
            max_position_embeddings=self.context or max(16, data.x_shape[-1]),
            tie_word_embeddings=self.tied,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
        _require_context(config, data, "SmallLlama")
        with quiet(transformers):
            network: Any = transformers.LlamaForCausalLM(config)
        if self.lora_rank is not None:
            network = _adapted(network, self.lora_rank, 2 * self.lora_rank)
        return AnsweringNetwork(network)


def _foreign_token(own: Sequence[str], data: Sequence[str], name: str) -> str | None:
    """Why tokens of the data are not those of a model; the one may have more of them than the other at the end."""
    first = next((number for number, pair in enumerate(zip(own, data, strict=False)) if pair[0] != pair[1]), None)
    if first is None:
        return None
    return (
        f"the data is not written in the tokens of {name}: token {first} reads {data[first]!r} there and {own[first]!r} in the model; "
        f'give the source the vocabulary {{"class": "PretrainedVocabulary", "parameters": {{"name_or_path": "{name}"}}}}'
    )


def _require_answers(data: ModelInput, name: str) -> None:
    if data.task != "generation" or len(data.x_shape) != 2:
        raise RequirementNotMet(
            f"{name} answers prompts; the data has {data.task} labels, its samples are of shape {data.x_shape}"
        )


def _require_context(config: Any, data: ModelInput, name: str) -> None:
    longest = _context(config)
    if longest is not None and longest < data.x_shape[-1]:
        raise RequirementNotMet(f"{name} reads {longest} tokens, the data has samples of {data.x_shape[-1]}; lower max_length")


def _context(config: Any) -> int | None:
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    return longest if isinstance(longest, int) and longest > 0 else None


def _adapted(network: Any, rank: int, alpha: int) -> Any:
    width = getattr(network.config.get_text_config(), "hidden_size", None)
    if isinstance(width, int) and rank > width:
        raise RequirementNotMet(f"updates of rank {rank} are not low-rank: the model is {width} wide; lower lora_rank")
    peft = library("peft", "lora_rank")
    settings = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules="all-linear", lora_dropout=0.0)
    with warnings.catch_warnings():
        # Between versions of the two libraries there is always one that the other calls deprecated.
        warnings.simplefilter("ignore", FutureWarning)
        return peft.get_peft_model(network, settings).base_model.model
