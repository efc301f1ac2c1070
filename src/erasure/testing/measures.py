"""What every measure must keep to, as a test suite to inherit.

::

    class TestMyMeasure(MeasureConformance):
        def make(self):
            return MyMeasure(partition="test")

The data and models are tiny and in memory (:func:`erasure.testing.evaluations.bench`); a suite runs in about a second.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from erasure.component import canonical
from erasure.errors import PartitionError, RequirementNotMet
from erasure.measures.contract import Measure, ModelRole, Value
from erasure.testing.checks import check, check_generators, global_states
from erasure.testing.evaluations import ToyEvaluation, bench, language_bench
from erasure.types import Task

__all__ = ["MeasureConformance"]

_TASKS: tuple[Task, ...] = ("classification", "binary", "multilabel")
_Named: TypeAlias = dict[tuple[str, str], Value]


class MeasureConformance:
    """Checks of one measure; give :meth:`make`, and change the class data where the measure differs.

    Class data:
        forget_class: Whether it is usually measured after a whole class was forgotten.
        empty: Partitions that may be empty, because the measure has an answer there.
        tolerance: Largest change of a value through batch size and order.
    """

    forget_class: ClassVar[bool] = False
    empty: ClassVar[frozenset[str]] = frozenset()
    tolerance: ClassVar[float] = 1e-5

    def make(self) -> Measure:
        """The measure under test."""
        raise NotImplementedError

    def bench(self, task: Task = "classification", seed: int = 0) -> ToyEvaluation:
        """The data and models it is tested on; override it to use your own."""
        return bench(task, forget_class=self.forget_class and task != "multilabel", seed=seed)

    def benches(self) -> list[ToyEvaluation]:
        """One for each kind of task that the measure is defined for; of generation if that is all."""
        measure = self.make()
        if measure.defined_for == {"generation"}:
            return [language_bench()]
        found = [given for given in map(self.bench, _TASKS) if measure.unsupported_reason(given.model_input) is None]
        check(bool(found), "the measure refuses every kind of task")
        return found

    def kind(self) -> ModelRole:
        """A kind of model that it judges, unlearned if it can."""
        judges = self.make().applies_to
        check(bool(judges), "the measure judges no kind of model")
        kinds: tuple[ModelRole, ...] = ("unlearned", "gold", "original")
        return next(kind for kind in kinds if kind in judges)

    def values(self, given: ToyEvaluation, model: str = "fair", *, elapsed_s: float = 1.0) -> _Named:
        """What the measure finds, by name and partition."""
        measure = self.make()
        return _named(measure, measure.measure(given.evaluation(measure, model, self.kind(), elapsed_s=elapsed_s)))

    def _usual(self) -> list[_Usual]:
        """The measure on each bench, run once for all checks that only look at what it did."""
        if type(self) not in _USUAL:
            _USUAL[type(self)] = [self._looked_at(given) for given in self.benches()]
        return _USUAL[type(self)]

    def _looked_at(self, given: ToyEvaluation) -> _Usual:
        states = {name: _state(model) for name, model in given.models.items()}
        x, y, generators = given.x.clone(), given.y.clone(), global_states()
        return _Usual(given, self.values(given), states, x, y, generators, global_states())

    # What a value is

    def test_values_are_finite_and_in_the_declared_range(self) -> None:
        low, high = self.make().value_range
        check(low < high, "the declared range is empty")
        for given in self.benches():
            for model in ("original", "gold", "fair", "poor"):
                for name, value in self.values(given, model).items():
                    check(math.isfinite(value.value), f"{name} of {model} is {value.value}")
                    inside = low - self.tolerance <= value.value <= high + self.tolerance
                    check(inside, f"{name} of {model} is {value.value}, outside [{low}, {high}]")
                    check(_around(value), f"{name}: the interval [{value.low}, {value.high}] does not hold {value.value}")

    def test_every_value_has_its_own_name(self) -> None:
        measure = self.make()
        for given in self.benches():
            found = measure.measure(given.evaluation(measure, "fair", self.kind()))
            check(len(found) > 0, "the measure gives no value")
            check(len(_named(measure, found)) == len(found), "two values have one name and partition")

    def test_names_do_not_depend_on_the_model(self) -> None:
        for given in self.benches():
            check(set(self.values(given, "gold")) == set(self.values(given, "poor")), "gold cannot be compared: names differ")

    def test_the_measure_has_a_canonical_form(self) -> None:
        measure = self.make()
        check(canonical(measure) == canonical(measure.replace()), "two equal measures have different addresses")

    # Better and best

    def test_gold_has_the_ideal_value(self) -> None:
        measure = self.make()
        if "unlearned" not in measure.applies_to:
            return
        for given in self.benches():
            as_gold = _named(measure, measure.measure(given.evaluation(measure, "gold", "gold", elapsed_s=2.0)))
            for name, value in self.values(given, "gold", elapsed_s=2.0).items():
                ideal = measure.ideal if value.ideal is None else value.ideal
                wanted = as_gold[name].value if ideal == "gold" else ideal
                if wanted is not None:
                    check(abs(value.value - float(wanted)) <= self.tolerance, f"{name} of gold is {value.value}, not {wanted}")

    def test_a_better_model_has_a_better_value(self) -> None:
        measure = self.make()
        for given in self.benches():
            good, poor = self.values(given, "gold", elapsed_s=1.0), self.values(given, "poor", elapsed_s=3.0)
            for name, value in good.items():
                higher = measure.higher_is_better if value.higher_is_better is None else value.higher_is_better
                if higher is not None:
                    step = (value.value - poor[name].value) * (1 if higher else -1)
                    moved = step > 0 if value.value != poor[name].value else poor[name].value == 0
                    check(moved, f"{name}: {value.value} for a good model, {poor[name].value} for a poor one")

    # Invariance

    def test_the_order_of_a_partition_does_not_matter(self) -> None:
        for usual in self._usual():
            shuffled = usual.given.with_partitions(_shuffled)
            self._same(usual.values, self.values(shuffled), "another order of the samples")

    def test_the_batch_size_does_not_matter(self) -> None:
        for usual in self._usual():
            self._same(usual.values, self.values(replace(usual.given, batch_size=7)), "another batch size")

    def test_measuring_twice_gives_the_same(self) -> None:
        for usual in self._usual():
            again = self.values(replace(usual.given, read=set(), compared=set()))
            check(_numbers(usual.values) == _numbers(again), "the same seed gave two values")

    def test_what_lies_outside_the_declared_partitions_has_no_influence(self) -> None:
        declared = self.make().partitions()
        for usual in self._usual():
            given = usual.given
            outside = torch.ones(len(given.x), dtype=torch.bool)
            for name in declared:
                outside[given.partitions[name]] = False
            x, y = given.x.clone(), given.y.clone()
            sign = 1 if given.task == "generation" else -1
            x[outside], y[outside] = sign * x[outside].flip(0), y[outside].flip(0)
            self._same(usual.values, self.values(replace(given, x=x, y=y)), "other samples outside its partitions")

    def _same(self, first: _Named, second: _Named, what: str) -> None:
        check(set(first) == set(second), f"{what} changed the names of values")
        for name, value in first.items():
            check(abs(value.value - second[name].value) <= self.tolerance, f"{what} changed {name}")

    # What must not be touched

    def test_no_model_is_changed(self) -> None:
        for usual in self._usual():
            for name, model in usual.given.models.items():
                check(_equal(usual.states[name], _state(model)), f"the {name} model's weights or buffers changed")
                check(not any(module.training for module in model.modules()), f"the {name} model left eval mode")
                check(all(p.grad is None for p in model.parameters()), f"the {name} model received gradients")
                check(all(p.requires_grad for p in model.parameters()), f"the {name} model's requires_grad changed")

    def test_the_data_is_not_changed(self) -> None:
        for usual in self._usual():
            same = torch.equal(usual.given.x, usual.x) and torch.equal(usual.given.y, usual.y)
            check(same, "inputs or labels changed")

    def test_no_global_generator_is_consumed(self) -> None:
        for usual in self._usual():
            check_generators(usual.generators, usual.generators_after)

    def test_only_declared_partitions_and_references_are_read(self) -> None:
        measure = self.make()
        for usual in self._usual():
            given = usual.given
            check(given.read <= set(measure.partitions()), f"reads {sorted(given.read - set(measure.partitions()))} undeclared")
            check(given.compared <= measure.references, f"compares with {sorted(given.compared - measure.references)} undeclared")

    def test_every_declared_partition_and_reference_is_read(self) -> None:
        measure = self.make()
        for usual in self._usual()[:1]:
            unread = set(measure.partitions()) - usual.given.read
            check(not unread, f"declares that it looks at {sorted(unread)}, but does not")
            check(measure.applies_to >= measure.targets() > frozenset(), "targets are not among the kinds it judges")

    # Degenerate data

    def test_an_empty_partition_is_refused_politely(self) -> None:
        measure = self.make()
        for given in self.benches():
            for empty in measure.partitions():
                partitions = {**given.partitions, empty: given.partitions[empty][:0]}
                answered = self._works_or_is_refused(replace(given, partitions=partitions))
                check(not answered or empty in self.empty, f'answers although "{empty}" is empty')

    def test_a_single_class_works_or_is_refused_politely(self) -> None:
        for given in self.benches():
            if given.task != "generation":
                self._works_or_is_refused(replace(given, y=torch.ones_like(given.y)))

    def test_a_single_sample_works_or_is_refused_politely(self) -> None:
        for given in self.benches():
            self._works_or_is_refused(given.with_partitions(lambda _, ids: ids[:1]))

    def test_a_missing_reference_is_refused_politely(self) -> None:
        measure = self.make()
        if not measure.references:
            return
        evaluation = self.benches()[0].evaluation(measure, "fair", self.kind())
        try:
            measure.measure(replace(evaluation, references={}))
        except RequirementNotMet:
            return
        raise AssertionError("answers although the models it compares with are missing; it should not declare them")

    def _works_or_is_refused(self, given: ToyEvaluation) -> bool:
        """Whether there are values; they must be finite, and only our own errors may be raised."""
        try:
            values = self.values(given)
        except (RequirementNotMet, PartitionError) as error:
            check(len(str(error)) > 10, "refuses without a reason")
            return False
        check(all(math.isfinite(value.value) for value in values.values()), f"gives {_numbers(values)}; refuse instead")
        return True


@dataclass(frozen=True, eq=False)
class _Usual:
    """A measurement: the bench afterwards, the values, and weights, data and states of the global generators before."""

    given: ToyEvaluation
    values: _Named
    states: Mapping[str, Mapping[str, Tensor]]
    x: Tensor
    y: Tensor
    generators: tuple[object, ...]
    generators_after: tuple[object, ...]


_USUAL: MutableMapping[type[MeasureConformance], list[_Usual]] = weakref.WeakKeyDictionary()


def _named(measure: Measure, values: Sequence[Value]) -> _Named:
    return {(value.name or measure.title, value.partition): value for value in values}


def _numbers(values: _Named) -> dict[tuple[str, str], float]:
    return {name: value.value for name, value in values.items()}


def _around(value: Value) -> bool:
    low = value.value if value.low is None else value.low
    high = value.value if value.high is None else value.high
    return low <= value.value <= high


def _shuffled(name: str, ids: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(len(name))
    return ids[torch.randperm(len(ids), generator=generator)]


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def _equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())
