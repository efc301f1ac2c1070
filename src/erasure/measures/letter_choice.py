"""Multiple choice by letter, as benchmarks of knowledge ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import MinLen
from torch import Tensor

from erasure.errors import Diagnostic, InvalidParameters, PartitionError, RequirementNotMet
from erasure.functional.tokens import LEARNED, WRONG, exchange_rows, n_versions, version_of, versions_missing, without_padding
from erasure.measures.contract import Evaluation, Measure, Value
from erasure.measures.generation import require_context
from erasure.measures.requirements import require_defined
from erasure.training.forward import logits_of
from erasure.training.predictor import ModelInput
from erasure.types import Partition, PositiveInt, Source, Task

__all__ = ["LetterChoice", "spelled"]

_BATCH = 16


@dataclass(frozen=True, kw_only=True)
class LetterChoice(Measure):
    """Share of questions for which the letter of the true answer is the likeliest.

    Answers: does the model still pick what is true when the answers are listed? After the prompt stand the true and the wrong answers with
    a letter each, the true one at each place in turn, and the probabilities of the letters alone are compared. Letters that
    are equally likely count their share. In [0, 1]; chance is the mean of one over the number of answers.

    Methods that turn states break letters and may leave knowledge: look at :class:`~erasure.measures.multiple_choice.MultipleChoice` too.
    Small models, and those that were trained on short answers alone, do not know what to do with letters, and stay at chance.

    **Cost**: a pass over prompts with all their answers.

    Args:
        partition: Where it is measured.
        letters: How answers are called, in their order.
        option: What stands before each answer, with ``{letter}``.
        asked: What stands after the last one, before the letter.
        n_samples: Only the first samples by their id, this many; all by default.
    """

    source: ClassVar[Source | None] = Source(
        paper="Hendrycks et al., ICLR 2021, arXiv:2009.03300; Li et al., ICML 2024, arXiv:2403.03218 (WMDP)",
        tested="listing by hand (tests/unit/language/test_letter_choice.py)",
        deviations=(
            "Letters and what stands around them are written in the longest tokens that read alike, not by the tokenizer.",
            "The places of the true answers take turns; the benchmarks have fixed ones.",
        ),
    )
    higher_is_better: ClassVar[bool | None] = True
    value_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    defined_for: ClassVar[frozenset[Task]] = frozenset({"generation"})

    partition: Partition = "forget"
    letters: Annotated[tuple[str, ...], MinLen(2)] = tuple("ABCDEFGHIJ")
    option: str = "\n{letter}."
    asked: str = "\nAnswer: "
    n_samples: PositiveInt | None = None

    def check(self) -> None:
        """Options must show their letter, and letters must differ."""
        if "{letter}" not in self.option:
            raise InvalidParameters([Diagnostic('expected a text with "{letter}"', path="LetterChoice.option")])
        if len(set(self.letters)) < len(self.letters):
            raise InvalidParameters([Diagnostic("letters must differ", path="LetterChoice.letters")])

    def unsupported_reason(self, data: ModelInput) -> str | None:
        """There must be wrong answers, and tokens that read like the letters."""
        reason = super().unsupported_reason(data) or versions_missing(data.x_shape, WRONG)
        if reason is None and data.token_names:
            try:
                self._written(data.token_names)
            except RequirementNotMet as error:
                return str(error)
        return reason

    def measure(self, evaluation: Evaluation) -> Sequence[Value]:
        """The share."""
        require_defined(self, evaluation)
        ids = evaluation.ids(self.partition).sort().values[: self.n_samples]
        if not len(ids):
            raise PartitionError(f'the partition "{self.partition}" is empty')
        evaluation.outputs(self.partition)  # a model that diverged chooses nothing
        names, marks = self._written(evaluation.facts.get("token_names"))
        lines: list[tuple[list[int], list[int]]] = []
        places: list[tuple[int, int]] = []
        first = int(torch.randint(0, len(names), (), generator=evaluation.streams.torch("order")))
        for prompt, answers in _asked(evaluation, ids):
            if len(answers) < 2:
                continue
            if len(answers) > len(names):
                raise RequirementNotMet(
                    f"a question has {len(answers)} answers, there are {len(names)} letters; give more of them"
                )
            # Places take turns, so that a model that always says one letter is at chance.
            turn = (first + len(places)) % len(answers)
            order = [(place - turn) % len(answers) for place in range(len(answers))]
            listed = [token for place, k in enumerate(order) for token in (*marks[place], *answers[k])]
            lines.append(([*prompt, *listed, *names[0][:-1]], [names[0][-1]]))
            places.append((order.index(0), len(answers)))
        if not lines:
            raise RequirementNotMet(f'no sample of "{self.partition}" has wrong answers; name their column in the source')
        model = evaluation.subject.load()
        require_context(model, max(len(before) + 1 for before, _ in lines))
        chosen = torch.tensor([name[-1] for name in names], device=evaluation.y.device)
        right = []
        for scores, (true, n_answers) in zip(_letters(model, lines, chosen, evaluation.y.device), places, strict=True):
            among = scores[:n_answers]
            is_best = among == among.max()
            right.append(float(is_best[true]) / int(is_best.sum()))
        chance = sum(1 / n_answers for _, n_answers in places) / len(places)
        return [Value(value=sum(right) / len(right), partition=self.partition, chance_level=chance)]

    def _written(self, pieces: Sequence[str] | None) -> tuple[list[list[int]], list[list[int]]]:
        """Tokens that name each answer, of which the last differ, and those before each answer."""
        if not pieces:
            raise RequirementNotMet("how tokens read is not known, so that letters cannot be written")
        known = {piece: number for number, piece in reversed(list(enumerate(pieces))) if piece}
        before = self.asked.rstrip(" ")
        # The blank belongs to the letters where there are tokens of both together.
        blank = self.asked[len(before) :]
        if not all(f"{blank}{letter}" in known for letter in self.letters):
            before, blank = self.asked, ""
        missing = next((letter for letter in self.letters if f"{blank}{letter}" not in known), None)
        if missing is not None:
            raise RequirementNotMet(
                f"no token of the data reads like {missing!r}, so that it cannot name an answer; give other letters"
            )
        names = [[*spelled(before, known), known[f"{blank}{letter}"]] for letter in self.letters]
        return names, [spelled(self.option.format(letter=letter), known) for letter in self.letters]


def _asked(evaluation: Evaluation, ids: Tensor) -> list[tuple[list[int], list[list[int]]]]:
    """Prompt and answers of each sample without their ends, the true one first."""
    x: Tensor = evaluation.x.gather(ids)
    found: list[tuple[list[int], list[list[int]]]] = [(prompt, []) for prompt, _, _ in without_padding(x)]
    for version in (LEARNED, *range(WRONG, n_versions(x))):
        for (_, answers), (_, answer, has_end) in zip(found, without_padding(version_of(x, version)[0]), strict=True):
            if answer:
                answers.append(answer[: len(answer) - has_end])
    return found


@torch.no_grad()
def _letters(model: Any, lines: Sequence[tuple[list[int], list[int]]], chosen: Tensor, device: torch.device) -> list[Tensor]:
    """Logit of each letter after each line."""
    found: list[Tensor] = []
    for start in range(0, len(lines), _BATCH):
        logits = logits_of(model(exchange_rows(lines[start : start + _BATCH], device)))
        found += list(logits[:, 0].index_select(-1, chosen).float().cpu())
    return found


def spelled(text: str, known: Mapping[str, int]) -> list[int]:
    """A text in the longest tokens that read like it, from the left.

    Args:
        text: What is written.
        known: Tokens by how they read.

    Raises:
        RequirementNotMet: If no token reads like what stands somewhere.

    Example:
        >>> spelled("an oak", {"an": 0, " o": 1, " oa": 2, "k": 3})
        [0, 2, 3]
    """
    longest = max(map(len, known), default=0)
    found: list[int] = []
    place = 0
    while place < len(text):
        length = next((n for n in range(min(longest, len(text) - place), 0, -1) if text[place : place + n] in known), 0)
        if not length:
            raise RequirementNotMet(f"no token of the data reads like {text[place]!r}, so that {text!r} cannot be written")
        found.append(known[text[place : place + length]])
        place += length
    return found
