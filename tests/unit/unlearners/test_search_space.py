"""Every unlearner has a search space, and what is drawn from it is a setting that the method accepts."""

import dataclasses

import pytest

from erasure.errors import InvalidParameters
from erasure.training.calls import Optimizer
from erasure.unlearners.advanced_neg_grad import AdvancedNegGrad
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.fisher_forgetting import FisherForgetting
from erasure.unlearners.identity import Identity
from erasure.unlearners.neg_grad_plus import NegGradPlus
from erasure.unlearners.salun import SalUn
from erasure.unlearners.scrub import Scrub
from erasure.unlearners.search import Range, search_space, with_parameters
from erasure.unlearners.selective_synaptic_dampening import SelectiveSynapticDampening

METHODS = (Scrub, SelectiveSynapticDampening, Finetuning, NegGradPlus, SalUn, AdvancedNegGrad, FisherForgetting)


@pytest.mark.parametrize("cls", METHODS)
@pytest.mark.parametrize("end", ["low", "high"])
def test_both_ends_of_every_range_are_accepted(cls, end):
    space = search_space(cls())
    assert space
    wanted = {name: getattr(kind, end) for name, kind in space.items()}
    tuned = with_parameters(cls(), wanted)
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


def test_defaults_are_inside_their_default_space():
    space = search_space(AdvancedNegGrad())
    assert space["epochs"] == Range(1, 2 * AdvancedNegGrad().epochs)
    assert space["optimizer.lr"] == Range(1e-5, 1e-1, log=True)
    alpha = search_space(FisherForgetting())["alpha"]
    assert alpha.low < FisherForgetting().alpha < alpha.high


def test_a_method_without_parameters_has_an_empty_space():
    assert search_space(Identity()) == {}


@pytest.mark.parametrize("ends", [(2.0, 1.0, False), (0.0, 1.0, True), (float("nan"), 1.0, False)])
def test_an_impossible_range_is_refused(ends):
    with pytest.raises(InvalidParameters):
        Range(*ends)


def test_a_parameter_that_is_not_there_is_refused():
    with pytest.raises(InvalidParameters):
        with_parameters(Finetuning(), {"optimiser.lr": 0.1})
