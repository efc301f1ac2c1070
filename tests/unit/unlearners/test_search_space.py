"""Every unlearner has a search space, and what is drawn from it is a setting that the method accepts."""

import dataclasses

import pytest

from erasure.catalogue import BUILTINS
from erasure.errors import InvalidParameters
from erasure.registry.lookup import Registry
from erasure.training.calls import Optimizer
from erasure.types import Fraction, PositiveFloat, PositiveInt
from erasure.unlearners.cascade import Cascade
from erasure.unlearners.contract import Unlearner
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.identity import Identity
from erasure.unlearners.masked import Masked
from erasure.unlearners.neg_grad import NegGrad
from erasure.unlearners.saliency import SaliencyMask
from erasure.unlearners.search import Range, current, search_space, with_parameters

COMPOSITIONS = {"Cascade", "RUM", "Sequential", "Masked", "LastLayers"}
PARAMETERLESS = {"ExactDeletion", "GoldModel", "Identity", "SISA", "Unlink"}
ALL = {name: Registry().resolve(name, Unlearner).cls for name in BUILTINS["unlearner"] if name not in COMPOSITIONS}
METHODS = [cls for name, cls in ALL.items() if name not in PARAMETERLESS]
REQUIRED = {"FeatureUnlearning": {"features": (0,)}}


def made(cls):
    return cls(**REQUIRED.get(cls.__name__, {}))


@pytest.mark.parametrize("name", ALL)
def test_every_method_publishes_its_space(name):
    assert isinstance(ALL[name].search_space, dict)
    assert bool(ALL[name].search_space) == (name not in PARAMETERLESS)


@pytest.mark.parametrize("cls", METHODS)
def test_the_published_defaults_are_where_the_search_begins(cls):
    """Those outside their range are long trainings, which a search makes shorter."""
    outside = {
        name: value
        for name, kind in search_space(made(cls)).items()
        if (value := current(made(cls), name)) is not None and not kind.low <= value <= kind.high
    }
    assert set(outside) <= {"epochs"}, outside


@pytest.mark.parametrize("cls", METHODS)
@pytest.mark.parametrize("end", ["low", "high"])
def test_both_ends_of_every_range_are_accepted(cls, end):
    space = search_space(made(cls))
    assert space
    wanted = {name: getattr(kind, end) for name, kind in space.items()}
    tuned = with_parameters(made(cls), wanted)
    for name, value in wanted.items():
        outer, _, inner = name.partition(".")
        found = getattr(tuned, outer)
        assert (found.parameters[inner] if inner else found) == value


@pytest.mark.parametrize("cls", METHODS)
def test_a_search_space_is_class_data_and_no_parameter(cls):
    assert "search_space" not in {each.name for each in dataclasses.fields(cls)}


def test_other_parameters_of_the_optimizer_stay():
    method = Finetuning(optimizer=Optimizer.of("SGD", lr=0.1, momentum=0.9))
    assert dict(with_parameters(method, {"optimizer.lr": 0.5}).optimizer.parameters) == {"lr": 0.5, "momentum": 0.9}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unpublished(Unlearner):
    epochs: PositiveInt = 3
    share: Fraction = 0.5
    strength: PositiveFloat = 2.0
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer.of("SGD", lr=0.1))


def test_who_publishes_none_has_one_around_the_defaults():
    space = search_space(Unpublished())
    assert space["epochs"] == Range(1, 6)
    assert space["optimizer.lr"] == Range(1e-5, 1e-1, log=True)
    assert space["strength"] == Range(0.02, 200.0, log=True)
    assert (space["share"].low, space["share"].high) == (0.0, 1.0)


def test_a_composition_has_the_spaces_of_what_is_inside_it():
    method = Cascade(steps=(NegGrad(), Masked(inner=Finetuning(), mask=SaliencyMask())))
    space = search_space(method)
    assert space["steps.0.optimizer.lr"] == NegGrad.search_space["optimizer.lr"]
    assert space["steps.1.inner.epochs"] == Finetuning.search_space["epochs"]
    tuned = with_parameters(method, {"steps.1.inner.epochs": 7, "steps.0.optimizer.lr": 1e-3, "steps.0.epochs": 2})
    assert (current(tuned, "steps.1.inner.epochs"), current(tuned, "steps.0.optimizer.lr"), tuned.steps[0].epochs) == (7, 1e-3, 2)
    assert tuned.steps[0].optimizer.parameters["momentum"] == NegGrad().optimizer.parameters["momentum"]
    with pytest.raises(InvalidParameters, match=r"steps.2.epochs"):
        with_parameters(method, {"steps.2.epochs": 1})


def test_a_method_without_parameters_has_an_empty_space():
    assert search_space(Identity()) == {}


@pytest.mark.parametrize("ends", [(2.0, 1.0, False), (0.0, 1.0, True), (float("nan"), 1.0, False)])
def test_an_impossible_range_is_refused(ends):
    with pytest.raises(InvalidParameters):
        Range(*ends)


def test_a_parameter_that_is_not_there_is_refused():
    with pytest.raises(InvalidParameters):
        with_parameters(Finetuning(), {"optimiser.lr": 0.1})
