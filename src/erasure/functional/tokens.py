r"""Answers of language models, token by token.

A sample is stored as tokens and, beside them, the role of each: padding, prompt, answer or the end of the answer. What is real and what is
labelled follows from the roles alone, never from an id: many tokenizers pad with a token that also ends turns inside a prompt.

A data set may hold several versions of a sample in one row: the answer that is learned, and others that are only measured or preferred.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from erasure.errors import RequirementNotMet
from erasure.kernels import predicted

__all__ = [
    "ALTERNATE",
    "ANSWER",
    "END",
    "LEARNED",
    "PADDING",
    "PARAPHRASE",
    "PROMPT",
    "REPHRASED",
    "STATISTICS",
    "UNLABELLED",
    "WRONG",
    "TokenTable",
    "answer_losses",
    "answer_tokens",
    "exchange_rows",
    "labelled",
    "n_versions",
    "token_losses",
    "token_mean",
    "token_statistics",
    "version_of",
    "versions_missing",
    "without_padding",
]

PADDING, PROMPT, ANSWER, END = range(4)
"""Roles of tokens; the end is a token of the answer too, but there is none where an answer was cut off."""

LEARNED, ALTERNATE, PARAPHRASE, REPHRASED, WRONG = range(5)
"""Versions of a sample: the answer itself; another one to be preferred; one in other words; the answer to the prompt in other words; and,
from here on, wrong answers."""

UNLABELLED = -100
"""Label of what is no token of the answer."""

STATISTICS = ("log_probability", "hit", "mean", "variance")
"""What is kept of a model's logits for each token of an answer."""


def labelled(y: Tensor) -> Tensor:
    """Where labels ``(B, T)`` are tokens, bool of the same shape."""
    return y != UNLABELLED


def token_losses(logits: Tensor, y: Tensor) -> Tensor:
    r"""Losses of the tokens, :math:`l_t = -\log p(y_t \mid x, y_{<t})`, in nats.

    Args:
        logits: ``(B, T', K)``, for the first ``T'`` tokens of each answer; nothing is labelled after them.
        y: ``(B, T)``, ``T >= T'``, filled up with :data:`UNLABELLED`.

    Returns:
        Shape ``(B, T')``, at least float32; 0 where there is no token.

    Example:
        >>> token_losses(torch.zeros(1, 2, 4), torch.tensor([[3, UNLABELLED]]))
        tensor([[1.3863, 0.0000]])
    """
    wide = logits if logits.dtype in {torch.float32, torch.float64} else logits.float()
    chosen = y[:, : logits.shape[1]]
    losses = F.cross_entropy(wide.flatten(0, 1), chosen.flatten(), ignore_index=UNLABELLED, reduction="none")
    return losses.reshape(chosen.shape)


def token_mean(logits: Tensor, y: Tensor) -> Tensor:
    """Mean loss over all tokens of a batch, a scalar: a long answer weighs more than a short one."""
    return token_losses(logits, y).sum() / labelled(y).sum().clamp_min(1)


def answer_losses(logits: Tensor, y: Tensor) -> Tensor:
    """Mean loss of each answer over its tokens, ``(B,)``: every sample weighs the same."""
    return token_losses(logits, y).sum(1) / labelled(y).sum(1).clamp_min(1)


def token_statistics(logits: Tensor, y: Tensor) -> Tensor:
    r"""What is kept of logits: log-probability of the label, whether it is the most likely token, and the vocabulary's moments.

    The moments are :math:`\mu = \sum_v p_v \log p_v` and :math:`\sum_v p_v \log^2 p_v - \mu^2`.

    Args:
        logits: ``(B, T', K)``.
        y: ``(B, T)``.

    Returns:
        ``(B, T, 4)`` in the order of :data:`STATISTICS`, float32 or float64; 0 where there is no token.
    """
    wide = logits if logits.dtype == torch.float64 else logits.float()
    log_p = wide.log_softmax(-1)
    chosen = y[:, : logits.shape[1]]
    is_token = labelled(chosen)
    own = log_p.gather(-1, chosen.clamp_min(0).unsqueeze(-1)).squeeze(-1)
    hit = (predicted("classification", log_p) == chosen).to(own.dtype)
    weighted = log_p.exp() * log_p
    # Where a logit is minus infinity its share of the mean is 0, not 0 times infinity.
    weighted = torch.where(log_p.isneginf(), torch.zeros_like(weighted), weighted)
    mean = weighted.sum(-1)
    square = torch.where(log_p.isneginf(), torch.zeros_like(weighted), weighted * log_p).sum(-1)
    found = torch.stack([own, hit, mean, (square - mean.square()).clamp_min(0)], dim=-1)
    found = torch.where(is_token.unsqueeze(-1), found, torch.zeros_like(found))
    return F.pad(found, (0, 0, 0, y.shape[1] - logits.shape[1]))


@dataclass(frozen=True, eq=False)
class TokenTable:
    """What a model says of every token of some answers.

    Args:
        statistics: ``(n, T, 4)``, from :func:`token_statistics`.
        labels: ``(n, T)`` tokens, filled up with :data:`UNLABELLED`.
    """

    statistics: Tensor
    labels: Tensor

    @property
    def mask(self) -> Tensor:
        """Where there is a token, ``(n, T)`` bool."""
        return labelled(self.labels)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each answer, ``(n,)`` int64."""
        return self.mask.sum(1)

    @property
    def log_probabilities(self) -> Tensor:
        """``(n, T)`` float64, at most 0."""
        return self.statistics[..., 0].double()

    @property
    def hits(self) -> Tensor:
        """Whether the label is the most likely token, ``(n, T)`` bool."""
        return self.statistics[..., 1] > 0

    @property
    def standardised(self) -> Tensor:
        """Log-probabilities less their mean over the vocabulary, over their spread, ``(n, T)`` float64."""
        spread = self.statistics[..., 3].double().clamp_min(1e-6).sqrt()
        return (self.log_probabilities - self.statistics[..., 2].double()) / spread

    @property
    def losses(self) -> Tensor:
        """Mean loss of each answer over its tokens, ``(n,)`` float64."""
        return -self.log_probabilities.sum(1) / self.lengths.clamp_min(1)

    @property
    def hit_shares(self) -> Tensor:
        """Share of the tokens of each answer that are hit, ``(n,)`` float64."""
        return (self.hits & self.mask).double().sum(1) / self.lengths.clamp_min(1)

    def without_ends(self, ends: Tensor) -> TokenTable:
        """The same answers without the tokens that end them.

        Args:
            ends: Whether each answer has such a token, its last; ``(n,)`` bool.
        """
        last = self.lengths - ends.to(torch.int64)
        inside = torch.arange(self.labels.shape[1], device=self.labels.device) < last.unsqueeze(1)
        kept = torch.where(inside.unsqueeze(-1), self.statistics, torch.zeros_like(self.statistics))
        return TokenTable(kept, torch.where(inside, self.labels, torch.full_like(self.labels, UNLABELLED)))


def n_versions(x: Tensor) -> int:
    """Versions of each sample in stored inputs ``(B, 2 V, L)``."""
    return x.shape[1] // 2


def version_of(x: Tensor, version: int) -> tuple[Tensor, Tensor]:
    """One version of each sample, as inputs of a model and their labels.

    Args:
        x: ``(B, 2 V, L)``.
        version: Which of them.

    Returns:
        ``(B, 2, L)`` and ``(B, T)``.

    Raises:
        RequirementNotMet: If the data does not have it.
    """
    reason = versions_missing(x.shape[1:], version)
    if reason is not None:
        raise RequirementNotMet(reason)
    chosen = x[:, 2 * version : 2 * version + 2]
    return chosen, answer_tokens(chosen)


def versions_missing(x_shape: Sequence[int], version: int) -> str | None:
    """Why data whose samples have a shape lacks a version, or None; asked before there is any data."""
    if len(x_shape) == 2 and x_shape[0] // 2 <= version:
        return f"the data has no {_VERSION_NAMES[min(version, WRONG)]}; name their column in the source"
    return None


_VERSION_NAMES = ("answers", "alternate answers", "paraphrased answers", "rephrased prompts", "wrong answers")


def answer_tokens(x: Tensor) -> Tensor:
    """Labels of stored inputs: the tokens of the learned answers from the left, ``(B, T)``, filled up with :data:`UNLABELLED`.

    Example:
        >>> answer_tokens(torch.tensor([[[7, 8, 9, 1], [PROMPT, ANSWER, END, PADDING]]]))
        tensor([[8, 9]])
    """
    ids, roles = x[:, 0], x[:, 1]
    lengths = (roles >= ANSWER).sum(1)
    n_tokens = int(lengths.max()) if len(x) else 0
    offsets = torch.arange(n_tokens, device=x.device)
    places = ((roles == PROMPT).sum(1, keepdim=True) + offsets).clamp_max(x.shape[2] - 1)
    return torch.where(offsets < lengths.unsqueeze(1), ids.gather(1, places), UNLABELLED)


def without_padding(x: Tensor) -> list[tuple[list[int], list[int], bool]]:
    """Of the learned version of each row, the prompt's tokens, those of the answer, and whether the last of these ends it."""
    found = []
    for ids, roles in zip(x[:, 0].tolist(), x[:, 1].tolist(), strict=True):
        prompt = [token for token, role in zip(ids, roles, strict=True) if role == PROMPT]
        answer = [token for token, role in zip(ids, roles, strict=True) if role >= ANSWER]
        found.append((prompt, answer, END in roles))
    return found


def exchange_rows(exchanges: Sequence[tuple[Sequence[int], Sequence[int]]], device: torch.device | None = None) -> Tensor:
    """Stored inputs of prompts and answers, ``(B, 2, L)``; no answer has a token that ends it.

    Args:
        exchanges: Tokens of each prompt, at least one, and of its answer.
        device: Where they are put.

    Example:
        >>> exchange_rows([([7], [8, 9]), ([5, 6], [])]).tolist()
        [[[7, 8, 9], [1, 2, 2]], [[5, 6, 0], [1, 1, 0]]]
    """
    length = max((len(prompt) + len(answer) for prompt, answer in exchanges), default=1)
    rows = []
    for prompt, answer in exchanges:
        n_left = length - len(prompt) - len(answer)
        rows.append([[*prompt, *answer, *[0] * n_left], [*[PROMPT] * len(prompt), *[ANSWER] * len(answer), *[PADDING] * n_left]])
    return torch.tensor(rows, dtype=torch.int64, device=device).reshape(len(rows), 2, length)
