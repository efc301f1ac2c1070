"""The jury of further golds: trained together where the recipe allows it, and looked at as each method is."""

import json

import pytest

from erasure.experiment.configuration import load_experiment
from erasure.measures.requested_models import UnlearnedShadow
from erasure.stages.blocks import split_member
from erasure.workflows.design import outlook_of
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan

FORGET = {"class": "Accuracy", "parameters": {"partition": "forget"}}


def planned(measures, n_golds=3, options=None, overrides=(), **predictor):
    configuration = {
        "data": {
            "data_source": {"class": "Sklearn", "parameters": {"name": "breast_cancer"}},
            "partitions": [
                {"class": "Percentage", "parameters": {"parts_names": ["train", "test"], "percentage": 0.7}},
                {
                    "class": "Percentage",
                    "parameters": {"parts_names": ["forget", "retain"], "ref_data": "train", "percentage": 0.1},
                },
            ],
        },
        "predictor": {"model": "MLP", "epochs": 2, **predictor},
        "unlearners": ["GoldModel", {"class": "Finetuning", "parameters": {"epochs": 1}}, "Identity"],
        "evaluator": {"measures": measures, "floor_repeats": n_golds},
    }
    return make_plan(load_experiment(configuration, overrides=overrides), options or RunOptions())


def golds_of(plan):
    (group,) = plan.repetitions
    return [floor.model for floor in group.floors]


def test_further_golds_are_one_block_with_the_seeds_that_each_had_alone():
    together, alone = planned([FORGET]), planned([FORGET], options=RunOptions(precision="bf16"))
    where, indices = zip(*(split_member(model) for model in golds_of(together)), strict=True)
    assert len(set(where)) == 1
    assert indices == (0, 1, 2)
    block = together.stages[where[0]].block
    assert list(block.seeds) == [alone.stages[model].seed for model in golds_of(alone)]
    assert block.partition == "retain"


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "Adafactor"},
        {"model": {"class": "TorchvisionModel", "parameters": {"name": "resnet18"}}},
        {"patience": 2, "validation_set": "test"},
    ],
)
def test_golds_that_cannot_be_trained_together_keep_stages_of_their_own(changes):
    plan = planned([FORGET], **changes)
    assert [plan.stages[model].kind for model in golds_of(plan)] == ["model"] * 3


def test_more_golds_leave_full_blocks_as_they_are():
    few, many = golds_of(planned([FORGET], n_golds=20)), golds_of(planned([FORGET], n_golds=25))
    assert many[:20] == few
    assert len({split_member(model)[0] for model in many}) == 2


def test_costs_and_populations_are_not_measured_on_the_jury():
    plan = planned([FORGET, "RunTime", {"class": "KLoM", "parameters": {"n_models": 2}}])
    (group,) = plan.repetitions
    for floor in group.floors:
        assert [where is not None for where in floor.values] == [True, False, False]
    assert all(where is not None for where in group.gold.values)


def test_an_attack_is_calibrated_for_the_jury_as_it_is_for_the_method():
    plan = planned([FORGET, {"class": "U-LiRA", "parameters": {"n_shadows": 4}}])
    (group,) = plan.repetitions
    gold_model, finetuning, identity = group.unlearned
    assert gold_model.jury == ()  # it retrains, as golds do
    for subject in (group.original, finetuning, identity):
        bank = plan.stages[subject.values[1]].requested
        assert any(isinstance(request, UnlearnedShadow) for request in bank)
        for model, values in zip(golds_of(plan), subject.jury, strict=True):
            assert values[0] is None  # an accuracy is calibrated on nothing
            stage = plan.stages[values[1]]
            assert (stage.model, stage.role, dict(stage.requested)) == (model, "gold", dict(bank))
    banks = [dict(plan.stages[subject.jury[0][1]].requested) for subject in (group.original, finetuning, identity)]
    assert banks[0] != banks[1] != banks[2]


def test_originals_of_one_split_may_share_their_golds():
    seeds = RunOptions(axes={"train": (0, 1, 2)})
    apart, shared = (
        planned(["UMIA", {"class": "ModelDistance"}], options=seeds, overrides=[f"evaluator.shared_golds={json.dumps(each)}"])
        for each in (False, True)
    )
    count = [sum(stage.kind in {"model", "models"} for stage in plan.stages.values()) for plan in (apart, shared)]
    assert count == [9, 5]  # an original, a gold and a block each; then three originals, a gold and a block
    assert len({tuple(floor.model for floor in group.floors) for group in shared.repetitions}) == 1
    assert len({group.original.model for group in shared.repetitions}) == 3
    for group in shared.repetitions:
        for subject in (group.original, *group.unlearned, *group.floors):
            if subject.values[-1] is None:  # an original is not compared with itself
                continue
            stage = shared.stages[subject.values[-1]]
            assert stage.references["original"] == shared.repetitions[0].original.model  # the same for all that are compared
        judged = shared.stages[group.unlearned[-1].check]
        assert judged.references["original"] == group.original.model  # doing nothing is doing nothing to one's own original
    assert [outlook_design(plan) for plan in (apart, shared)] == [(3, 64), (3, 20)]


def outlook_design(plan):
    found = outlook_of(plan)
    return found.n_originals, found.n_labellings
