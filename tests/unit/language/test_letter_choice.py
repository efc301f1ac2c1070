"""Multiple choice by letter: what is listed, and which letter wins."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.functional.tokens import ANSWER, PROMPT
from erasure.measures.letter_choice import LetterChoice, spelled
from erasure.testing.evaluations import language_bench
from erasure.training.predictor import ModelInput

FRAME = {"letters": (" b1", " c2", " d3"), "option": "{letter}", "asked": ""}


class Listening(nn.Module):
    """Keeps what it is asked and finds one letter likely."""

    def __init__(self, scores):
        super().__init__()
        self.scores, self.asked = scores, []

    def forward(self, x):
        self.asked += [ids[roles == PROMPT].tolist() for ids, roles in zip(x[:, 0], x[:, 1], strict=True)]
        return self.scores.expand(len(x), 1, -1)


def evaluated(given, measure, model):
    evaluation = given.evaluation(measure, "fair")
    return measure.measure(replace(evaluation, subject=replace(evaluation.subject, load=lambda: model)))


def scores(*tokens):
    found = torch.zeros(40)
    found[list(tokens)] = 3.0
    return found


def rows(given):
    """Prompt, true and wrong answers of each sample by hand, without their ends."""
    for sample in given.partitions["forget"].sort().values.tolist():
        x = given.x[sample]
        answers = [x[2 * version][x[2 * version + 1] == ANSWER].tolist() for version in (0, 4, 5)]
        yield x[0][x[1] == PROMPT].tolist(), answers


def test_every_answer_is_listed_behind_its_letter_and_the_letter_of_the_true_one_counts():
    given, model = language_bench(), Listening(scores(2))
    (value,) = evaluated(given, LetterChoice(**FRAME), model)
    right = []
    for asked, (prompt, answers) in zip(model.asked, rows(given), strict=True):
        orders = [
            order
            for order in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
            if asked == [*prompt, *(token for place, k in enumerate(order) for token in (place + 1, *answers[k]))]
        ]
        assert orders
        right.append(orders[0][1] == 0)
    assert value.value == pytest.approx(sum(right) / len(right))
    assert value.value == pytest.approx(1 / 3, abs=0.02)  # one letter for all questions is chance
    assert value.chance_level == pytest.approx(1 / 3)
    again = Listening(scores(2))
    evaluated(given, LetterChoice(**FRAME), again)
    assert again.asked == model.asked


def test_letters_that_are_equally_likely_count_their_share():
    given = language_bench()
    assert evaluated(given, LetterChoice(**FRAME), Listening(scores()))[0].value == pytest.approx(1 / 3)
    (first,), (second,), (both,) = (
        evaluated(given, LetterChoice(**FRAME), Listening(scores(*each))) for each in ((1,), (2,), (1, 2))
    )
    assert both.value == pytest.approx((first.value + second.value) / 2)


def test_letters_are_written_in_the_longest_tokens():
    assert spelled(" bb", {" b": 3, "b": 4, " ": 5}) == [3, 4]
    with pytest.raises(RequirementNotMet, match="reads like 'z'"):
        spelled("bz", {"b": 1})
    with pytest.raises(RequirementNotMet, match="cannot name an answer"):
        evaluated(language_bench(), LetterChoice(), Listening(scores()))
    with pytest.raises(RequirementNotMet, match="there are 2 letters"):
        evaluated(language_bench(), LetterChoice(**{**FRAME, "letters": (" b1", " c2")}), Listening(scores()))


def test_the_blank_belongs_to_the_letters_where_all_have_one():
    pieces = ["", *(f"t{k}" for k in range(1, 33)), ":", " ", "A", "B", " A", " B", "C"]
    for letters, ends in ((("A", "B"), ([33], [37, 38])), (("A", "B", "C"), ([33, 34], [35, 36, 39]))):
        measure = LetterChoice(letters=letters, option="{letter}", asked=": ")
        names, _ = measure._written(pieces)
        assert names == [[*ends[0], letter] for letter in ends[1]]


def test_letters_that_no_token_reads_like_are_missed_before_anything_is_trained():
    read = ModelInput((12, 9), 40, "generation", "text", token_names=("", "\n", ".", "Answer:", " ", "A", "B"))
    assert LetterChoice(letters=("A", "B"), asked="\nAnswer: ").unsupported_reason(read) is None
    assert "no token of the data reads like 'C'" in LetterChoice(letters=("A", "C")).unsupported_reason(read)


def test_letters_must_be_shown_and_differ():
    with pytest.raises(InvalidParameters, match="expected a text with"):
        LetterChoice(option="- ")
    with pytest.raises(InvalidParameters, match="differ"):
        LetterChoice(letters=("A", "A"))
