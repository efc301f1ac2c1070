"""Experiments in upstream's words: the paths, parameters and habits of its files."""

import pytest

import erasure
from erasure.experiment.configuration import load_experiment
from erasure.training.calls import Optimizer
from erasure.unlearners.cascade import Cascade
from erasure.unlearners.eu_k import EUk
from erasure.unlearners.finetuning import Finetuning
from erasure.unlearners.fisher_forgetting import FisherForgetting
from erasure.unlearners.gold_model import GoldModel
from erasure.unlearners.last_layers import LastLayers
from erasure.unlearners.masked import Masked
from erasure.unlearners.saliency import SaliencyMapGeneration
from erasure.unlearners.scrub import Scrub
from erasure.unlearners.selective_synaptic_dampening import SelectiveSynapticDampening
from erasure.unlearners.successive_random_labels import SuccessiveRandomLabels

U = "erasure.unlearners."
S = "erasure.data.datasets.DataSplitter."
ADAM = {"class": "torch.optim.Adam", "parameters": {"lr": 0.001}}
SALUN = {
    "class": f"{U}composite.Cascade",
    "parameters": {
        "sub_unlearner": [
            {
                "class": f"{U}SaliencyMapGeneration.SaliencyMapGeneration",
                "parameters": {"treshold": 0.3, "save_dir": "resources/masks", "file_name": "digits.pt", "ref_data": "forget"},
            },
            {
                "class": f"{U}SuccessiveRandomLabels.SuccessiveRandomLabels",
                "parameters": {"epochs": 1, "model_mask_path": "resources/masks/digits.pt", "optimizer": ADAM},
            },
        ]
    },
}


def experiment(*unlearners):
    """Upstream's shape, with a source that ships with scikit-learn."""
    return {
        "data": {
            "class": "erasure.data.datasets.DatasetManager.DatasetManager",
            "parameters": {
                "DataSource": {"class": "Sklearn", "parameters": {"name": "iris"}},
                "partitions": [
                    {"class": f"{S}DataSplitterPercentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.8}},
                    {
                        "class": f"{S}DataSplitterPercentage",
                        "parameters": {"parts_names": ["forget", "retain"], "percentage": 0.2, "ref_data": "train"},
                    },
                ],
                "batch_size": 16,
                "split_seed": 4,
            },
        },
        "predictor": {
            "class": "erasure.model.TorchModel.TorchModel",
            "parameters": {
                "epochs": 4,
                "optimizer": ADAM,
                "loss_fn": {"class": "torch.nn.CrossEntropyLoss"},
                "model": {"class": "erasure.model.classifiers.standard_classifier.IrisNN", "parameters": {}},
                "cached": "true",
            },
        },
        "unlearners": list(unlearners),
        "evaluator": {
            "class": "erasure.evaluations.manager.Evaluator",
            "parameters": {
                "measures": [
                    {
                        "class": "erasure.evaluations.running.ChainOfRunners",
                        "parameters": {"runners": [{"class": "erasure.evaluations.running.RunTime"}]},
                    },
                    {
                        "class": "erasure.evaluations.measures.TorchSKLearn",
                        "parameters": {
                            "partition": "test",
                            "target": "unlearned",
                            "function": {"class": "sklearn.metrics.accuracy_score"},
                        },
                    },
                    {"class": "erasure.evaluations.measures.AUS", "parameters": {"forget_part": "forget", "test_part": "test"}},
                    {
                        "class": "erasure.evaluations.measures.SaveValues",
                        "parameters": {"path": "out.json", "output_format": "json"},
                    },
                ]
            },
        },
        "globals": {"seed": 0, "cached": "true"},
    }


def understood(*unlearners):
    return load_experiment(experiment(*unlearners))


def only(node):
    (entry,) = understood(node).unlearners
    return entry.unlearner


def node(path, **parameters):
    return {"class": f"{U}{path}", "parameters": parameters}


CASES = {
    "gold": (node("GoldModel.GoldModel", training_set="retain", cached="true", ref_data="retain"), GoldModel()),
    "fine-tuning": (
        node("Finetuning.Finetuning", ref_data="retain"),
        Finetuning(epochs=5, optimizer=Optimizer.of("Adam", lr=0.001)),
    ),
    "CF-k": (
        node("Finetuning.Finetuning", epochs=2, last_trainable_layers=1, optimizer=ADAM),
        LastLayers(inner=Finetuning(epochs=2, optimizer=Optimizer.of("Adam", lr=0.001)), n_layers=1),
    ),
    "all layers": (
        node("Finetuning.Finetuning", epochs=2, last_trainable_layers=-1, optimizer=ADAM),
        Finetuning(epochs=2, optimizer=Optimizer.of("Adam", lr=0.001)),
    ),
    "EU-k": (
        node("eu_k.eu_k", epochs=3, last_trainable_layers=2),
        EUk(k=2, epochs=3, optimizer=Optimizer.of("Adam", lr=0.001), schedule=None, max_grad_norm=None),
    ),
    "SCRUB": (
        node("Scrub.Scrub", T=3.0, ref_data_retain="retain", ref_data_forget="forget"),
        Scrub(epochs=1, temperature=3.0, alpha=1.0, gamma=1.0, optimizer=Optimizer.of("Adam", lr=0.001)),
    ),
    "SSD": (
        node("SelectiveSynapticDampening.SelectiveSynapticDampening", ref_data_train="train", lr=0.1, optimizer=ADAM),
        SelectiveSynapticDampening(dampening_constant=0.1, selection_weighting=10.0),
    ),
    "Fisher": (
        node("FisherForgetting.FisherForgetting", ref_data="retain", ff_epochs=7),
        FisherForgetting(alpha=1e-6, max_samples=7),
    ),
    "SalUn": (
        SALUN,
        Cascade(
            steps=[
                SaliencyMapGeneration(fraction=0.3, save_dir="resources/masks", file_name="digits.pt"),
                Masked(
                    inner=SuccessiveRandomLabels(epochs=1, order="sequential", optimizer=Optimizer.of("Adam", lr=0.001)),
                    mask_file="resources/masks/digits.pt",
                ),
            ]
        ),
    ),
}


@pytest.mark.parametrize(("written", "meant"), CASES.values(), ids=CASES)
def test_a_node_is_understood_as_its_author_meant_it(written, meant):
    assert only(written) == meant


def test_a_parameter_without_effect_is_said_to_have_none():
    notices = understood(node("SelectiveSynapticDampening.SelectiveSynapticDampening", lr=0.1)).notices
    assert any('"lr" has no effect: the method takes no gradient steps' in notice.message for notice in notices)


def test_runners_are_spliced_and_savers_left_out():
    loaded = understood("Identity")
    assert [measure.title for measure in loaded.evaluator.measures] == ["RunTime", "accuracy", "AUS"]
    assert any("results are always written" in notice.message for notice in loaded.notices)


def test_every_core_method_runs_by_its_upstream_name(tmp_path):
    names = (
        "GoldModel.GoldModel", "Finetuning.Finetuning", "eu_k.eu_k", "NegGrad.NegGrad", "AdvancedNegGrad.AdvancedNegGrad",
        "UNSIR.UNSIR", "BadTeaching.BadTeaching", "Scrub.Scrub", "SelectiveSynapticDampening.SelectiveSynapticDampening",
        "FisherForgetting.FisherForgetting", "SuccessiveRandomLabels.SuccessiveRandomLabels", "composite.Identity",
    )  # fmt: skip
    results = erasure.run(experiment(*(f"{U}{name}" for name in names), SALUN), store=tmp_path / "store")
    assert results.failures == {}
    assert len({row.label for row in results if row.model_role == "unlearned"}) == len(names) + 1
    # A copied block with another learning rate, upstream's way to sweep, gets a label of its own.
    rates = [
        node("Finetuning.Finetuning", optimizer={"class": "torch.optim.SGD", "parameters": {"lr": lr}}) for lr in (0.1, 0.01)
    ]
    assert [entry.label for entry in understood(*rates).unlearners] == ["Finetuning (lr=0.1)", "Finetuning (lr=0.01)"]
