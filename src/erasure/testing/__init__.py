"""Conformance suites for people who write their own components; needs pytest (or any runner of classes named ``Test…``)."""

from erasure.testing.data import SourceConformance, SplitterConformance, StepConformance
from erasure.testing.measures import MeasureConformance
from erasure.testing.stores import StoreConformance
from erasure.testing.unlearners import LanguageUnlearnerConformance, UnlearnerConformance

__all__ = [
    "LanguageUnlearnerConformance",
    "MeasureConformance",
    "SourceConformance",
    "SplitterConformance",
    "StepConformance",
    "StoreConformance",
    "UnlearnerConformance",
]
