"""What methods for language models have in common: a term of the forgotten answers and a term of the retained ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal, TypeAlias

import torch
from torch import Tensor, nn

from erasure.functional.tokens import LEARNED, labelled, token_losses, version_of
from erasure.training.batches import Batch, Batches
from erasure.training.calls import Optimizer, Schedule
from erasure.training.devices import autocast
from erasure.training.forward import logits_of
from erasure.training.loop import Trainer, paired
from erasure.types import NonNegativeFloat, NonNegativeInt, PartitionRole, PositiveFloat, PositiveInt, Task
from erasure.unlearners.contract import IterativeUnlearner, UnlearningContext, frozen_copy

__all__ = [
    "AnswerLogits",
    "AnswerLosses",
    "AnswerUnlearner",
    "Answers",
    "Reference",
    "Step",
    "Term",
    "cut",
    "descended",
    "logits_for",
    "loss_term",
    "losses_for",
    "token_divergence",
]


@dataclass(frozen=True, eq=False, kw_only=True)
class Answers:
    """Some answers of a batch.

    Args:
        y: Their tokens, ``(B, T)``, filled up with -100.
        ids: The samples' ids, ``(B,)``.
        n_samples: Samples of the whole batch, of which these are a part.
        n_tokens: Tokens of the whole batch's answers, a scalar on the device.
    """

    y: Tensor
    ids: Tensor
    n_samples: int
    n_tokens: Tensor

    @cached_property
    def mask(self) -> Tensor:
        """Where there is a token, ``(B, T)`` bool."""
        return labelled(self.y)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each answer, ``(B,)``."""
        return self.mask.sum(1)

    def over_tokens(self, values: Tensor) -> Tensor:
        """These answers' share of the mean over the batch's tokens, of values ``(B, T)``; what stands where no token is counts nothing."""
        return torch.where(self.mask, values, torch.zeros_like(values)).sum() / self.n_tokens

    def over_samples(self, values: Tensor) -> Tensor:
        """Their share of the mean over the batch's samples, of values ``(B,)``."""
        return values.sum() / self.n_samples


@dataclass(frozen=True, eq=False, kw_only=True)
class AnswerLosses(Answers):
    """Some answers of a batch and their losses by a model, as :class:`Answers`.

    Args:
        losses: Loss of each token, ``(B, T)``; 0 where there is none.
    """

    losses: Tensor


@dataclass(frozen=True, eq=False, kw_only=True)
class AnswerLogits(Answers):
    """Some answers of a batch and a model's logits for them, as :class:`Answers`.

    Args:
        logits: ``(B, T, K)``.
    """

    logits: Tensor


Term: TypeAlias = Callable[[Batch, int, Tensor], Tensor]
"""Takes a piece of a batch, and the samples and tokens of the whole batch; gives the piece's share of a loss."""

Step: TypeAlias = Callable[[tuple[Batch, Batch | None]], Tensor]
"""Takes a forget batch and the retain batch beside it, leaves gradients in the parameters, and gives the loss."""


def logits_for(model: nn.Module, batch: Batch, n_samples: int, n_tokens: Tensor) -> AnswerLogits:
    """A model's logits for the learned answers of a piece of a batch."""
    logits = logits_of(model(batch.x))
    y = batch.y[:, : logits.shape[1]]
    return AnswerLogits(logits=logits, y=y, ids=batch.ids, n_samples=n_samples, n_tokens=n_tokens)


def losses_for(model: nn.Module, batch: Batch, n_samples: int, n_tokens: Tensor) -> AnswerLosses:
    """A model's losses of the learned answers of a piece of a batch."""
    losses = _token_losses(model, batch)
    y = batch.y[:, : losses.shape[1]]
    return AnswerLosses(losses=losses, y=y, ids=batch.ids, n_samples=n_samples, n_tokens=n_tokens)


def _token_losses(model: nn.Module, batch: Batch) -> Tensor:
    """Losses of tokens, asked of the model where it gives them, which spares the logits of a large vocabulary."""
    if getattr(model, "gives_losses", False):
        return model(batch.x, batch.y)  # type: ignore[no-any-return]
    return token_losses(logits_of(model(batch.x)), batch.y)


class Reference:
    """The model as it was before: a frozen copy, made when it is first asked for.

    Args:
        model: The model to be unlearned, not yet changed.
        task: The task.
    """

    def __init__(self, model: nn.Module, context: UnlearningContext) -> None:
        self.teacher: nn.Module = frozen_copy(model)
        self.task: UnlearningContext = context

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """Its logits, in the run's precision."""
        with autocast(self.task.device, self.task.precision):
            return logits_of(self.teacher(batch.x)).detach()

    @torch.no_grad()
    def losses(self, batch: Batch) -> Tensor:
        """Its losses of tokens, ``(B, T)``, in the run's precision."""
        with autocast(self.task.device, self.task.precision):
            return _token_losses(self.teacher, batch).detach()

    @torch.no_grad()
    def sums(self, role: PartitionRole, version: int = LEARNED) -> Tensor:
        """Its loss of each answer of a partition, summed over the tokens; ``(N,)``, 0 for samples that are not in it.

        Computed once for the whole partition, since it never changes.
        """
        # Sums of whole answers are tens of nats, of which bfloat16 does not even keep halves.
        dtype = torch.promote_types(next(self.teacher.parameters()).dtype, torch.float32)
        found = torch.zeros(len(self.task.y), device=self.task.device, dtype=dtype)
        for batch in self.task.batches(role, shuffle=False):
            x, y = version_of(batch.x, version)
            found[batch.ids] = self.losses(Batch(x, y, batch.ids)).sum(1).to(found.dtype)
        return found


@dataclass(frozen=True, kw_only=True)
class AnswerUnlearner(IterativeUnlearner):
    """A method for language models: a weighted sum of a term of forgotten answers and a term of retained ones.

    An epoch is a pass over the forget set, each batch with one of the retain set, which is drawn without repetition and newly shuffled when
    it ends: partners differ from epoch to epoch. What terms are divided by is that of the whole batch, known beforehand, so that cutting a
    batch into pieces changes no gradient.

    Args:
        forget_weight: Weight of the forget term.
        retain_weight: Weight of the retain term.
        retain_term: ``nll`` is the loss of the retained answers; ``kl`` how far predictions there are from the original's; ``none`` leaves
            the retain set alone.
        piece_size: Samples that go through the model at a time; by default the whole batch. Smaller ones take less memory and give the same
            step.
    """

    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})
    reads: ClassVar[frozenset[PartitionRole]] = frozenset({"forget", "retain"})

    epochs: NonNegativeInt = 10
    optimizer: Optimizer = field(default_factory=lambda: Optimizer.of("AdamW", lr=1e-5, weight_decay=0.01))
    schedule: Schedule | None = None
    forget_weight: PositiveFloat = 1.0
    retain_weight: NonNegativeFloat = 1.0
    retain_term: Literal["nll", "kl", "none"] = "nll"
    piece_size: PositiveInt | None = None

    def partitions(self) -> dict[PartitionRole, str]:
        """The forget set, and the retain set where there is a term of it."""
        return {role: name for role, name in super().partitions().items() if role != "retain" or self.keeps}

    @property
    def keeps(self) -> bool:
        """Whether there is a term of retained answers."""
        return self.retain_term != "none" and self.retain_weight > 0

    def forget_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """What is minimised on forgotten answers; called once, before the first step."""
        raise NotImplementedError

    def retained_term(self, model: nn.Module, context: UnlearningContext) -> Term:
        """What is minimised on retained answers."""
        if self.retain_term == "nll":
            return loss_term(model)
        reference = Reference(model, context)

        def divergence(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
            answers = logits_for(model, batch, n_samples, n_tokens)
            return answers.over_tokens(token_divergence(reference.logits(batch), answers.logits))

        return divergence

    def narrow(self, model: nn.Module) -> None:
        """Leave only those weights trainable that the method changes; all that may be trained, by default."""

    def unlearn(self, model: nn.Module, context: UnlearningContext) -> nn.Module:
        """Descend on both terms."""
        return descended(self, model, context, self.keeps, self.step)

    def step(self, trainer: Trainer, forget: Term, retain: Term | None, n_steps: int) -> Step:
        """What leaves the gradients of one step in the parameters.

        Args:
            trainer: The loop.
            forget: Term of forgotten answers.
            retain: Term of retained ones, if there is one.
            n_steps: Steps in an epoch.
        """

        def share(part: tuple[Term, float, Batch, int, Tensor]) -> Tensor:
            term, weight, batch, n_samples, n_tokens = part
            return weight * term(batch, n_samples, n_tokens)

        def step(pair: tuple[Batch, Batch | None]) -> Tensor:
            parts = [(forget, self.forget_weight, *piece) for piece in self.pieces(pair[0], "forget")]
            if retain is not None and pair[1] is not None:
                parts += [(retain, self.retain_weight, *piece) for piece in self.pieces(pair[1], "retain")]
            return trainer.accumulate(parts, share)

        return step

    def n_tokens(self, batch: Batch, role: PartitionRole) -> Tensor:
        """Tokens of a batch that a mean is taken over: those of its answers."""
        return labelled(batch.y).sum()

    def pieces(self, batch: Batch, role: PartitionRole) -> list[tuple[Batch, int, Tensor]]:
        """What goes through the model at a time, each with the samples and tokens of the whole batch."""
        return cut(batch, self.n_tokens(batch, role), self.piece_size)


def cut(batch: Batch, n_tokens: Tensor, size: int | None) -> list[tuple[Batch, int, Tensor]]:
    """Pieces of a batch of at most ``size`` samples, each with the samples and tokens of the whole batch."""
    n_samples = len(batch.y)
    parts = zip(*(part.split(size or n_samples) for part in (batch.x, batch.y, batch.ids)), strict=True)
    return [(Batch(x, y, ids), n_samples, n_tokens.clamp_min(1)) for x, y, ids in parts]


def loss_term(model: nn.Module) -> Term:
    """The mean loss over the tokens of answers."""

    def loss(batch: Batch, n_samples: int, n_tokens: Tensor) -> Tensor:
        answers = losses_for(model, batch, n_samples, n_tokens)
        return answers.over_tokens(answers.losses)

    return loss


def descended(
    method: AnswerUnlearner,
    model: nn.Module,
    context: UnlearningContext,
    keeps: bool,
    stepping: Callable[[Trainer, Term, Term | None, int], Step],
) -> nn.Module:
    """A model after the epochs of a method, by steps that ``stepping`` makes of its terms.

    Args:
        method: Has the terms, the optimizer and the epochs.
        model: Changed in place.
        context: Data and streams.
        keeps: Whether each forget batch has a retain batch with it.
        stepping: Takes the loop, both terms and the steps in an epoch.
    """
    if not context.n_samples("forget"):
        return model
    method.narrow(model)
    forget_term = method.forget_term(model, context)
    retain_term = method.retained_term(model, context) if method.keeps else None
    trainer = method.trainer(model, context)
    forget = context.batches("forget")
    # Made once: a second one would be shuffled as the first was.
    retain = context.batches("retain") if keeps and context.n_samples("retain") else None
    step = stepping(trainer, forget_term, retain_term, len(forget))
    for _ in context.epochs(method, trainer, forget, retain):
        trainer.step_on(_pairs(forget, retain), step)
    return model


def _pairs(forget: Batches, retain: Batches | None) -> Iterator[tuple[Batch, Batch | None]]:
    if retain is None:
        yield from ((batch, None) for batch in forget)
    else:
        yield from paired(forget, retain)


def token_divergence(reference: Tensor, logits: Tensor) -> Tensor:
    r"""How far the next-token predictions are from a reference's, :math:`\mathrm{KL}(p_0 \,\|\, p)` of each token, in nats.

    Args:
        reference: Logits of the reference, ``(B, T, K)``.
        logits: The model's; gradients flow here.

    Returns:
        ``(B, T)``, at least 0.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    log_0, log_p = reference.to(wide).log_softmax(-1), logits.to(wide).log_softmax(-1)
    return (log_0.exp() * (log_0 - log_p)).sum(-1)
