"""What a network says of answers, token by token, and what is read from that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from erasure.errors import RequirementNotMet
from erasure.functional.diverged import outputs_diverged
from erasure.functional.memorisation import exact_memorisation, extraction_strength
from erasure.functional.tokens import END, TokenTable, answer_tokens, token_statistics
from erasure.measures.contract import Value
from erasure.training.forward import logits_of

__all__ = ["Knowledge", "knowledge", "knowledge_values", "table_of"]

Knowledge: TypeAlias = Literal["probability", "extraction", "memorisation"]
"""Mean probability per token, extraction strength, or share of tokens that are hit."""

_BATCH = 32


@torch.no_grad()
def table_of(network: nn.Module, x: Tensor) -> TokenTable:
    """What a network says of the first version of each row of stored inputs, on the CPU.

    Args:
        network: In eval mode.
        x: Tokens and roles, ``(n, 2 V, L)``.

    Raises:
        RequirementNotMet: If it is not finite or runs away.
    """
    y = answer_tokens(x)
    parts = [
        token_statistics(logits_of(network(inputs)), labels).cpu()
        for inputs, labels in zip(torch.split(x, _BATCH), torch.split(y, _BATCH), strict=True)
    ]
    statistics = torch.cat(parts)
    if outputs_diverged(statistics):
        raise RequirementNotMet("what the model says of answers is not finite or runs away")
    return TokenTable(statistics, y.cpu())


def knowledge(table: TokenTable, x: Tensor) -> dict[Knowledge, Tensor]:
    """What is known of each answer, ``(n,)`` float64 in [0, 1]; the token that ends an answer counts for its probability alone.

    Args:
        table: What a model says of the answers.
        x: The stored inputs that they are from, ``(n, 2 V, L)``.
    """
    inside = table.without_ends((x[:, 1] == END).any(1).cpu())
    return {
        "probability": (-table.losses).exp(),
        "extraction": extraction_strength(inside),
        "memorisation": exact_memorisation(inside),
    }


def knowledge_values(title: str, known: dict[Knowledge, Tensor], wanted: Sequence[Knowledge], partition: str) -> Iterator[Value]:
    """A value for each kind of knowledge that is wanted, the mean over the answers."""
    for kind in wanted:
        yield Value(value=float(known[kind].mean()), name=f"{title} {kind}", partition=partition)
