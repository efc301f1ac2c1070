"""Answers that a language model generates, beside the true ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from erasure.errors import PartitionError, RequirementNotMet
from erasure.functional.counts import are_among
from erasure.functional.rouge import rouge_l, rouge_words
from erasure.functional.tokens import END, exchange_rows, without_padding
from erasure.measures.contract import Evaluation
from erasure.token_texts import text_of_pieces
from erasure.types import Json

__all__ = ["Generated", "examples_of", "generated", "mean_rouge", "require_context", "text_of"]

_BATCH = 32
_MANY = 1024


@dataclass(frozen=True)
class Generated:
    """What was asked, what should have been said, and what was.

    Args:
        sample: Id of the sample.
        prompt: Tokens of the prompt, without examples before it.
        tokens: Tokens that were generated, without the one that ends them.
        wanted: Text of the true answer, without its end.
        said: Text that was generated.
    """

    sample: int
    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    wanted: str
    said: str


def generated(
    evaluation: Evaluation,
    partition: str,
    *,
    max_new_tokens: int,
    n_samples: int | None = None,
    wanted_tokens: int | None = None,
    before: Sequence[int] = (),
    n_left_out: int = 0,
) -> list[Generated]:
    """Greedy answers of the subject to the prompts of a partition, in the order of ids.

    Args:
        evaluation: The model and the data.
        partition: Whose prompts.
        max_new_tokens: Tokens of an answer at most.
        n_samples: Only the first samples by their id, this many.
        wanted_tokens: The true answer is cut to this many tokens.
        before: Tokens that stand before every prompt, such as solved examples.
        n_left_out: The first samples, this many, are not asked.

    Raises:
        PartitionError: If there is nothing to ask.
        RequirementNotMet: If the model does not generate, has diverged, or reads fewer tokens; or how tokens read is unknown.
    """
    ids = evaluation.ids(partition).sort().values[n_left_out:][:n_samples]
    if not len(ids):
        raise PartitionError(f'the partition "{partition}" is empty' + (", its examples left out" if n_left_out else ""))
    pieces = evaluation.facts.get("token_names")
    if not pieces:
        raise RequirementNotMet("how tokens read is not known, so that answers cannot be compared as texts")
    evaluation.outputs(partition)  # a model that diverged says nothing
    model: Any = evaluation.subject.load()
    if not hasattr(model, "generate"):
        raise RequirementNotMet("the model does not generate answers; take a language model of this package")
    x: Tensor = evaluation.x.gather(ids)
    end, known = _end_of(evaluation, x), without_padding(x)
    if before:
        require_context(model, max(len(prompt) for prompt, _, _ in known) + len(before) + max_new_tokens)
        x = exchange_rows([([*before, *prompt], answer) for prompt, answer, _ in known], x.device)

    def compute() -> Json:
        return [
            list(said) for part in torch.split(x, _BATCH) for said in model.generate(part, end=end, max_new_tokens=max_new_tokens)
        ]

    # Of a model, once, whichever measures ask.
    answers: Any = evaluation.shared(
        "generation",
        model,
        [partition],
        compute,
        draws=False,
        max_new_tokens=max_new_tokens,
        n_samples=n_samples,
        before=list(before),
        n_left_out=n_left_out,
    )
    found: list[Generated] = []
    for sample, (prompt, answer, has_end), said in zip(ids.tolist(), known, answers, strict=True):
        wanted = answer[: len(answer) - has_end][:wanted_tokens]
        found.append(Generated(sample, tuple(prompt), tuple(said), wanted=text_of(pieces, wanted), said=text_of(pieces, said)))
    if not before:
        noted: Any = evaluation.notes.setdefault("answers", [])
        noted += [{"sample": each.sample, "said": each.said} for each in found]
    return found


def examples_of(evaluation: Evaluation, partition: str, n_samples: int, *, asked: str = "") -> list[int]:
    """Tokens of the first exchanges of a partition by id, each prompt with its answer and end, one after the other.

    Args:
        evaluation: The data.
        partition: Where they are from.
        n_samples: How many.
        asked: Partition whose prompts they stand before; none of its samples is among them, or the answer would stand before the question.

    Raises:
        PartitionError: If the partition has fewer.
    """
    ids = evaluation.ids(partition).sort().values
    if asked:
        ids = ids[~are_among(ids, evaluation.ids(asked))]
    if len(ids) < n_samples:
        kind = f' that are not in "{asked}"' if asked else ""
        raise PartitionError(f'the partition "{partition}" has {len(ids)} samples{kind}, {n_samples} examples are asked for')
    found: list[int] = []
    for prompt, answer, _ in without_padding(evaluation.x.gather(ids[:n_samples])):
        found += [*prompt, *answer]
    return found


def mean_rouge(pairs: Sequence[tuple[str, str]], score: Literal["recall", "f1"]) -> float:
    """Mean ROUGE-L of generated texts, each given after the true one.

    Raises:
        RequirementNotMet: If it counts no word in any of the true ones: it would be 0 for every model.
    """
    if not any(rouge_words(wanted) for wanted, _ in pairs):
        raise RequirementNotMet(
            "ROUGE counts words of the letters a to z and digits, and no true answer has any, so that every model would have 0; take "
            "ExactMemorisation, ExtractionStrength or AnswerProbability"
        )
    return sum(rouge_l(wanted, said)[0 if score == "recall" else 1] for wanted, said in pairs) / len(pairs)


def require_context(model: Any, n_tokens: int) -> None:
    """Refuse samples that are longer than what the model reads.

    Raises:
        RequirementNotMet: If they are.
    """
    context = getattr(model, "context", None)
    if context is not None and n_tokens > context:
        raise RequirementNotMet(
            f"with examples before them prompts and answers have {n_tokens} tokens, the model reads {context}; take fewer examples, or a "
            "model that reads more (SmallLlama: context)"
        )


def text_of(pieces: Sequence[str], ids: Sequence[int]) -> str:
    """How tokens read, one after the other."""
    return text_of_pieces(pieces[i] if i < len(pieces) else "" for i in ids)


def _end_of(evaluation: Evaluation, x: Tensor) -> int | None:
    """The token that ends answers; where all of these were cut, that of other samples, and None if there is none anywhere."""
    others = (evaluation.x.gather(ids) for ids in torch.split(torch.arange(len(evaluation.y), device=x.device), _MANY))
    for rows in itertools.chain([x], others):
        ends = rows[:, ::2][rows[:, 1::2] == END]
        if len(ends):
            return int(ends[0])
    return None
