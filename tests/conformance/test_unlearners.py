"""The conformance suite for every unlearner of the package: each module of ``erasure.unlearners`` is found by itself."""

import importlib
import inspect
import math
import pkgutil
from dataclasses import dataclass, fields

import pytest
import torch
from torch import nn

import erasure.unlearners
from erasure.models.ensemble import Ensemble
from erasure.models.linear import LogisticRegression, NoisyLogisticRegression, Ridge
from erasure.testing.problems import problem
from erasure.testing.unlearners import LanguageUnlearnerConformance, UnlearnerConformance
from erasure.training.calls import Optimizer
from erasure.training.predictor import Model, Predictor
from erasure.unlearners.answers import AnswerUnlearner
from erasure.unlearners.contract import IterativeUnlearner, Unlearner
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.identity import Identity
from erasure.unlearners.neg_grad_plus import NegGradPlus
from erasure.unlearners.saliency import SaliencyMask
from erasure.unlearners.weighted_ascent import WeightedAscent

SGD = Optimizer.of("SGD", lr=0.05, momentum=0.9)

BASES = {Unlearner, IterativeUnlearner, AnswerUnlearner, WeightedAscent}

# The suite has no graph of which something is forgotten; tests/unit/unlearners/test_gnn_delete.py has.
ON_GRAPHS_ALONE = {"GNNDelete"}


@dataclass(frozen=True, kw_only=True)
class PlainNetwork(Model):
    """Two layers without dropout and BatchNorm, for anything that is numbers."""

    def build(self, data):
        return Rows(math.prod(data.x_shape), data.n_outputs)


class Rows(nn.Module):
    def __init__(self, n_inputs, n_outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(n_inputs, 8), nn.Tanh(), nn.Linear(8, n_outputs))

    def forward(self, x):
        return self.layers(x.flatten(1).float() / 10)


EPOCHS = {"epochs", "assistant_epochs", "reinforce_epochs"}

# Parameters that make a method small enough to be run dozens of times, and arguments without a default.
PARAMETERS = {
    "AMUN": {"epochs": 2, "batch_size": 8, "attack_steps": 5, "epsilon": 0.5},
    "AmnesiacUnlearning": {},
    "BadTeaching": {"batch_size": 8},
    "BoundaryExpand": {"epochs": 2, "optimizer": SGD},
    "BoundaryShrink": {"epochs": 2, "optimizer": SGD, "bound": 0.5},
    "CertifiedUnlearning": {"start_radius": 1.0, "rate": 0.05, "weight_decay": 2.0, "max_steps": 6, "epochs": 1},
    "CFk": {"epochs": 2},
    "Cascade": {"steps": (Finetuning(epochs=1), Identity())},
    "Cognac": {"epochs": 1},
    "ConfuseAndWeaken": {"epochs": 2, "batch_size": 8},
    "ConvolutionTranspose": {"epochs": 1, "batch_size": 8},
    "DatamodelMatching": {"epochs": 2, "max_steps": 5},
    "DeltaGrad": {},
    "DUCK": {"epochs": 2, "batch_size": 8, "repair_epochs": 1},
    "DecoupledDistillation": {"epochs": 2, "optimizer": SGD, "batch_size": 8},
    "EUk": {"epochs": 2},
    "FeatureUnlearning": {"features": (1,), "max_steps": 5},
    "Finetuning": {"epochs": 2},
    "ForgetContrastStrengthen": {"epochs": 2, "batch_size": 8},
    "GKT": {"epochs": 2, "student_steps": 2, "batch_size": 16, "noise_size": 4, "max_probability": 0.5},
    "GraphInfluence": {"damping": 0.1, "tolerance": 0.01},
    "InfluenceUnlearning": {"max_steps": 5},
    "JustInTime": {"n_noises": 2, "optimizer": SGD},
    "KGA": {"epochs": 2, "inner_steps": 2, "optimizer": SGD},
    "LastLayers": {"inner": Finetuning(epochs=1), "n_layers": 1},
    "LoTUS": {"epochs": 2, "optimizer": SGD, "batch_size": 8},
    "LUNAR": {"refused": "retain"},
    "MaskedSmallGradients": {"epochs": 2, "batch_size": 8, "layers": "all"},
    "Masked": {"inner": Finetuning(epochs=1), "mask": SaliencyMask()},
    "MUNBa": {"epochs": 2},
    "NeighbourRelabelling": {"epochs": 2},
    "NegMerge": {"epochs": 2, "learning_rates": (0.05, 0.1)},
    "OrthoGrad": {"epochs": 2, "retain_batch_size": 4},
    "ProjectedGradientUnlearning": {"epochs": 3, "batch_size": 8, "variance": 0.5},
    "PruneAndRedraw": {"epochs": 1, "batch_size": 8},
    "ResetAndDistil": {"epochs": 1, "warm_up_epochs": 1, "batch_size": 8},
    "ResetAndNoise": {"epochs": 2, "repair_factors": (1.0,), "batch_size": 8},
    "RUM": {"steps": (Finetuning(epochs=1), NegGradPlus(epochs=1))},
    "SFRon": {"steps": 8},
    "RMU": {"epochs": 2, "steering": 1.0},
    "Scrub": {"epochs": 2, "max_epochs": 1},
    "ScrubRewind": {"epochs": 4, "optimizer": Optimizer.of("Adam", lr=0.05)},
    "Sequential": {"method": Finetuning(epochs=1), "requests": ("forget",), "remaining": ("retain",)},
    "UAM": {"epochs": 2},
    "UNSIR": {"noise_batch_size": 8, "noise_steps": 5, "noise_copies": 2, "batch_size": 8},
}

# Where a method differs from what the suite expects by default.
FACTS = {
    "DeltaGrad": {
        "recipe": Predictor(model=PlainNetwork(), epochs=6, optimizer=Optimizer.of("SGD", lr=0.1), schedule=None),
        "stochastic": False,
        "reads": frozenset({"train"}),
    },
    "RewindToDelete": {"stochastic": False},
    "AmnesiacUnlearning": {"zero_epochs_change_nothing": False},
    "CertifiedUnlearning": {"zero_epochs_change_nothing": False},
    "DescentToDelete": {"recipe": Predictor(model=LogisticRegression(l2=0.05))},
    "ExactDeletion": {"recipe": Predictor(model=Ridge()), "reads": frozenset({"forget"}), "stochastic": False},
    "LangevinUnlearning": {"recipe": Predictor(model=NoisyLogisticRegression(burn_in=20)), "reads": frozenset({"retain"})},
    "SISA": {"recipe": Predictor(model=Ensemble(model=PlainNetwork(), shards=3, slices=2), epochs=2), "stochastic": False},
    "NewtonRemoval": {"recipe": Predictor(model=LogisticRegression(l2=0.05, perturbation=1.0)), "stochastic": False},
    "ConfuseAndWeaken": {"kind": "image", "zero_epochs_change_nothing": False},
    "ConvolutionTranspose": {"kind": "image", "zero_epochs_change_nothing": False},
    "EUk": {"zero_epochs_change_nothing": False},
    "EraseThenRectify": {"stochastic": False},
    "FeatureUnlearning": {"stochastic": False},
    "GKT": {"forget": "class", "reads": frozenset()},
    "GoldModel": {"stochastic": False},
    "GraphInfluence": {"stochastic": False},
    "Identity": {"stochastic": False},
    "InfluenceUnlearning": {"stochastic": False},
    "LUNAR": {"stochastic": False},
    "LFSSD": {"stochastic": False},
    "Projector": {"recipe": Predictor(model=Ridge()), "stochastic": False, "reads": frozenset({"retain"})},
    "MaskedSmallGradients": {"zero_epochs_change_nothing": False},
    "NTKForgetting": {"stochastic": False},
    "PruneAndRedraw": {"zero_epochs_change_nothing": False},
    "ResetAndDistil": {"zero_epochs_change_nothing": False},
    "ResetAndNoise": {"zero_epochs_change_nothing": False},
    "RUM": {"zero_epochs_change_nothing": False},
    "SaliencyMapGeneration": {"stochastic": False},
    "SelectiveSynapticDampening": {"stochastic": False},
    "SVDClassForgetting": {"forget": "class", "stochastic": False},
    "UNSIR": {"forget": "class"},
    "Unlink": {"stochastic": False},
    "WINU": {"stochastic": False},
}


def unlearners() -> dict[str, type[Unlearner]]:
    found = {}
    for module in pkgutil.iter_modules(erasure.unlearners.__path__, "erasure.unlearners."):
        for cls in vars(importlib.import_module(module.name)).values():
            is_own = inspect.isclass(cls) and issubclass(cls, Unlearner) and cls.__module__ == module.name
            if is_own and cls not in BASES and cls.__name__ not in ON_GRAPHS_ALONE and cls.unlearn is not Unlearner.unlearn:
                found[cls.__name__] = cls
    return found


def small(cls: type[Unlearner]) -> Unlearner:
    """The method with parameters that make it small: two epochs where by default there are more."""
    fewer = {
        field.name: 2 for field in fields(cls) if field.name in EPOCHS and isinstance(field.default, int) and field.default > 2
    }
    return cls(**fewer | PARAMETERS.get(cls.__name__, {}))


def suite_of(cls: type[Unlearner]) -> type[UnlearnerConformance]:
    name = f"Test{cls.__name__}"
    content = {"__module__": __name__, "__qualname__": name, "make": lambda self: small(cls)}
    base = LanguageUnlearnerConformance if cls.defined_for == {"generation"} else UnlearnerConformance
    return type(name, (base,), {**content, **FACTS.get(cls.__name__, {})})


for _cls in unlearners().values():
    globals()[f"Test{_cls.__name__}"] = suite_of(_cls)


GENERIC = {name: cls for name, cls in unlearners().items() if "generation" in cls.defined_for and len(cls.defined_for) > 1}


@pytest.mark.parametrize("name", GENERIC)
def test_a_method_that_needs_only_the_loss_works_on_language_models(name):
    given = problem("language", task="generation")
    method = small(GENERIC[name])
    if name == "SelectiveSynapticDampening":
        method = method.replace(selection_weighting=1.0)
    unlearned = method.run(given.model, given.context).model
    inputs = given.context.x.gather(given.context.partitions["test"])
    assert torch.isfinite(unlearned(inputs)).all()
    changed = any(not torch.equal(a, b) for a, b in zip(unlearned.parameters(), given.model.parameters(), strict=True))
    assert changed or method.changes_nothing() or name in {"Identity", "SaliencyMapGeneration"}


def test_the_tables_name_only_methods_that_exist():
    assert set(PARAMETERS) | set(FACTS) <= set(unlearners())


@pytest.mark.parametrize("cls", unlearners().values(), ids=unlearners())
def test_every_method_names_its_source_and_its_cost(cls):
    assert cls.source is not None
    assert cls.source.paper
    assert cls.cost
