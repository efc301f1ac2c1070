"""The one import path for authors of components: contracts, what they are given, and the types of their parameters.

Names stay here when the modules behind them move. ``docs/write-your-own.md`` has an example of every kind; the conformance suites are in
:mod:`erasure.testing`.
"""

from collections.abc import Callable
from typing import Any

from erasure.accounting.guarantee import Guarantee
from erasure.analysis.overview import Overview
from erasure.component import Call, Component
from erasure.data.contract import DataSource, Splitter
from erasure.data.corruption import Corruption
from erasure.data.dataset import Dataset
from erasure.data.language.vocabularies import Encoder, Vocabulary
from erasure.data.preprocess.contract import PartStep, Step
from erasure.data.preprocess.per_sample import SampleStep
from erasure.data.preprocess.samples import Field, Samples
from erasure.data.preprocess.tokenizers import Tokenizer
from erasure.errors import (
    ConfigError,
    DataError,
    Diagnostic,
    InvalidParameters,
    MissingDependency,
    PartitionError,
    RequirementNotMet,
)
from erasure.events import Event, Message, RowReady, RunFinished, RunStarted, StageFailed, StageFinished
from erasure.measures.contract import Evaluation, Measure, Outputs, Value
from erasure.measures.requested_models import ModelRequest, Original, Repeated, Retrained, Shadow, UnlearnedShadow
from erasure.renamed import module_formerly
from erasure.reports.figures.figure import Figure, base
from erasure.stages.session import Session
from erasure.stages.stage import Stage
from erasure.store import Writer
from erasure.trackers.contract import Tracker
from erasure.training.augmentation import Augmentation
from erasure.training.batches import Batch, Batches, Column, TensorColumn
from erasure.training.calls import Loss, Optimizer, Schedule
from erasure.training.predictor import Model, ModelInput
from erasure.training.randomness import Streams
from erasure.training.triggers import Trigger
from erasure.types import (
    Fraction,
    Indication,
    Json,
    NonNegativeFloat,
    NonNegativeInt,
    OpenFraction,
    Partition,
    PartitionRole,
    PositiveFloat,
    PositiveInt,
    Source,
    Task,
)
from erasure.unlearners.contract import IterativeUnlearner, Unlearner, UnlearningContext, frozen_copy
from erasure.unlearners.masked import Mask
from erasure.unlearners.search import Range, SearchSpace

__all__ = [
    "Augmentation",
    "Batch",
    "Batches",
    "Call",
    "Column",
    "Component",
    "ConfigError",
    "Corruption",
    "DataError",
    "DataSource",
    "Dataset",
    "Diagnostic",
    "Encoder",
    "Evaluation",
    "Event",
    "Field",
    "Figure",
    "Fraction",
    "Guarantee",
    "Indication",
    "InvalidParameters",
    "IterativeUnlearner",
    "Json",
    "Loss",
    "Mask",
    "Measure",
    "Message",
    "MissingDependency",
    "Model",
    "ModelInput",
    "ModelRequest",
    "NonNegativeFloat",
    "NonNegativeInt",
    "OpenFraction",
    "Optimizer",
    "Original",
    "Outputs",
    "Overview",
    "PartStep",
    "Partition",
    "PartitionError",
    "PartitionRole",
    "PositiveFloat",
    "PositiveInt",
    "Range",
    "Repeated",
    "RequirementNotMet",
    "Retrained",
    "RowReady",
    "RunFinished",
    "RunStarted",
    "SampleStep",
    "Samples",
    "Schedule",
    "SearchSpace",
    "Session",
    "Shadow",
    "Source",
    "Splitter",
    "Stage",
    "StageFailed",
    "StageFinished",
    "Step",
    "Streams",
    "Task",
    "TensorColumn",
    "Tokenizer",
    "Tracker",
    "Trigger",
    "UnlearnedShadow",
    "Unlearner",
    "UnlearningContext",
    "Value",
    "Vocabulary",
    "Writer",
    "base",
    "frozen_copy",
]


__getattr__: Callable[[str], Any] = module_formerly(
    __name__,
    {
        "Problem": "Diagnostic",
        "Request": "ModelRequest",
        "Role": "PartitionRole",
        "TaskKind": "Task",
        "Tells": "Indication",
        "UnlearningTask": "UnlearningContext",
    },
)
