"""Measures of language models against the conformance suite."""

import pytest

from erasure.errors import RequirementNotMet
from erasure.measures.answers import AnswerProbability, ExactMemorisation, ExtractionStrength
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


LANGUAGE_MEASURES = [suite.make(None) for suite in MeasureConformance.__subclasses__() if suite.__module__ == __name__]


@pytest.mark.parametrize("measure", LANGUAGE_MEASURES, ids=lambda measure: type(measure).__name__)
def test_measures_of_answers_refuse_classes(measure):
    assert measure.refuse(bench("classification").model_input)
    assert measure.refuse(language_bench().model_input) is None
    given = bench("classification")
    with pytest.raises(RequirementNotMet, match="generation"):
        measure.measure(given.evaluation(measure))
