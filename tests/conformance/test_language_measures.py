"""Measures of language models against the conformance suite."""

import pytest

from erasure.errors import RequirementNotMet
from erasure.measures.answers import AnswerProbability, ExactMemorisation, ExtractionStrength
from erasure.measures.attacks.answer_membership import AnswerMembership
from erasure.measures.attacks.model_membership import GradientMembership, ReferenceMembership
from erasure.measures.attacks.prompt_attack import PromptAttack
from erasure.measures.attacks.rounded_weights import RoundedWeights
from erasure.measures.generated_answers import ModelUtility, RougeL
from erasure.measures.letter_choice import LetterChoice
from erasure.measures.multiple_choice import MultipleChoice
from erasure.measures.muse import KnowMem, PrivLeak, VerbMem
from erasure.measures.open_unlearning import OpenUnlearningScore
from erasure.measures.relearning_curve import RelearningCurve
from erasure.measures.truth_ratio import ForgetQuality, TruthRatio
from erasure.measures.wording import Fluency, RefusalRate
from erasure.testing.evaluations import bench, language_bench
from erasure.testing.measures import MeasureConformance


class TestAnswerProbability(MeasureConformance):
    def make(self):
        return AnswerProbability()


class TestExtractionStrength(MeasureConformance):
    def make(self):
        return ExtractionStrength()


class TestExactMemorisation(MeasureConformance):
    def make(self):
        return ExactMemorisation()


class TestTruthRatio(MeasureConformance):
    def make(self):
        return TruthRatio()


class TestForgetQuality(MeasureConformance):
    def make(self):
        return ForgetQuality(resamples=50)


class TestRougeL(MeasureConformance):
    def make(self):
        return RougeL(partition="test", max_new_tokens=6)


class TestModelUtility(MeasureConformance):
    def make(self):
        return ModelUtility(kept=("retain", "test"), max_new_tokens=6)


class TestMultipleChoice(MeasureConformance):
    def make(self):
        return MultipleChoice()


class TestLetterChoice(MeasureConformance):
    def make(self):
        return LetterChoice(letters=(" b1", " c2", " d3"), option="{letter}", asked="")

    def test_a_better_model_has_a_better_value(self):
        """A model of pairs of tokens has forgotten the question; tests/unit/language/test_letter_choice.py has others."""
        for given in self.benches():
            good, poor = self.values(given, "gold", elapsed_s=1.0), self.values(given, "poor", elapsed_s=3.0)
            assert good.keys() == poor.keys()
            assert all(0 < value.value < 1 for value in (*good.values(), *poor.values()))


class TestPromptAttack(MeasureConformance):
    def make(self):
        return PromptAttack(asking=("rephrased", "examples"))


class TestRoundedWeights(MeasureConformance):
    def make(self):
        return RoundedWeights()


class TestRelearningCurve(MeasureConformance):
    def make(self):
        return RelearningCurve(n_steps=4)


class TestReferenceMembership(MeasureConformance):
    def make(self):
        return ReferenceMembership()


class TestGradientMembership(MeasureConformance):
    def make(self):
        return GradientMembership()


class TestOpenUnlearningScore(MeasureConformance):
    def make(self):
        return OpenUnlearningScore(max_new_tokens=6)


class TestRefusalRate(MeasureConformance):
    def make(self):
        return RefusalRate(phrases=(" b1",), max_new_tokens=6)


class TestFluency(MeasureConformance):
    def make(self):
        return Fluency(max_new_tokens=6)


class TestVerbMem(MeasureConformance):
    def make(self):
        return VerbMem(n_tokens=6)


class TestKnowMem(MeasureConformance):
    def make(self):
        return KnowMem(n_tokens=6)


class TestPrivLeak(MeasureConformance):
    def make(self):
        return PrivLeak()


class TestAnswerMembership(MeasureConformance):
    def make(self):
        return AnswerMembership()


LANGUAGE_MEASURES = [suite.make(None) for suite in MeasureConformance.__subclasses__() if suite.__module__ == __name__]


@pytest.mark.parametrize("measure", LANGUAGE_MEASURES, ids=lambda measure: type(measure).__name__)
def test_measures_of_answers_refuse_classes(measure):
    assert measure.unsupported_reason(bench("classification").model_input)
    assert measure.unsupported_reason(language_bench().model_input) is None
    given = bench("classification")
    with pytest.raises(RequirementNotMet, match="generation"):
        measure.measure(given.evaluation(measure))
