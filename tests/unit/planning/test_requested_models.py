import probing_measures
import pytest
import torch

from erasure.experiment.configuration import load_experiment
from erasure.measures.requested_models import Original, Retrained, Shadow, UnlearnedShadow
from erasure.planning.planner import build_plan
from erasure.planning.seeds import Seeds
from erasure.stages.blocks import ModelStack, chunks, forgotten_ids, seen_ids
from erasure.workflows.options import RunOptions
from erasure.workflows.run import make_plan, run_experiment

PARTITIONS = {"forget": torch.arange(10), "test": torch.arange(10, 40), "retain": torch.arange(40, 100)}


def _shadow(number=0, share=0.5):
    return Shadow(number=number, pool=("forget", "test"), always=("retain",), share=share)


def _block(*requests):
    return ModelStack(requests=requests, seeds=tuple(range(len(requests))), way="train", root=7)


def test_shadows_2k_and_2k_plus_1_have_complementary_halves():
    counts = torch.zeros(100, dtype=torch.int64)
    for number in range(8):
        counts[seen_ids(_shadow(number), _block(_shadow()), PARTITIONS)] += 1
    assert counts[:40].tolist() == [4] * 40
    assert counts[40:].tolist() == [8] * 60


def test_shadows_of_another_share_see_that_share():
    seen = seen_ids(_shadow(3, share=0.25), _block(_shadow()), PARTITIONS)
    assert len(seen) == 60 + 10
    assert seen.tolist() == sorted(set(seen.tolist()))


def test_an_unlearned_shadow_forgets_a_part_of_its_half():
    whole = UnlearnedShadow(number=5, shadow=_shadow())
    half = UnlearnedShadow(number=5, shadow=_shadow(), share=0.5)
    other = UnlearnedShadow(number=5, shadow=_shadow(), share=0.5, draw=1)
    block = _block(whole)
    seen = set(seen_ids(whole, block, PARTITIONS).tolist())
    gone = {request: set(forgotten_ids(request, block, PARTITIONS).tolist()) for request in (whole, half, other)}
    assert gone[whole] == {sample for sample in seen if sample < 40}
    assert len(gone[half]) == 10
    assert gone[half] < gone[whole]
    assert gone[half] != gone[other]


def test_more_requests_leave_full_blocks_as_they_are():
    few, many = [_shadow(k) for k in range(32)], [_shadow(k) for k in range(90)]
    assert chunks(many, 16)[:2] == chunks(few, 16)


def _experiment(unlearners, measures):
    return load_experiment(
        {
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
            "predictor": {"model": {"class": "MLP", "parameters": {"hidden_sizes": [8]}}, "epochs": 2},
            "unlearners": unlearners,
            "evaluator": {"measures": measures},
            "globals": {"seed": 0},
        },
        trust=["probing_measures"],
    )


PROBE = "probing_measures.Probe"


@pytest.fixture
def results(tmp_path):
    experiment = _experiment(["GoldModel", {"class": "Finetuning", "parameters": {"epochs": 1}}, "Identity"], [PROBE])
    found = run_experiment(experiment, RunOptions(store=tmp_path / "store"))
    assert not found.failures, found.failures
    return {(row.label or row.model_role, row.measure): row.value for row in found.rows}


def test_every_kind_of_model_is_made_as_it_says(results):
    sizes = {
        who: [results[who, f"{n} {type(r).__name__} seen"] for n, r in enumerate(probing_measures.REQUESTS)] for who, _ in results
    }
    kinds = [type(request).__name__ for request in probing_measures.REQUESTS]
    for who, seen in sizes.items():
        by_kind = {kind: {size for k, size in zip(kinds, seen, strict=True) if k == kind} for kind in kinds}
        assert by_kind["Retrained"] == {359}
        assert by_kind["Original"] == {398}
        assert by_kind["Shadow"] == by_kind["UnlearnedShadow"]
        assert by_kind["Repeated"] == ({359} if who in {"gold", "GoldModel"} else {398})


def test_what_is_asked_for_alike_is_the_same_model_and_the_rest_differs(results):
    number = {request: n for n, request in enumerate(probing_measures.REQUESTS)}
    shadow, unlearned = probing_measures.SHADOW, UnlearnedShadow(number=0, shadow=probing_measures.SHADOW)

    def loss(who, request):
        return results[who, f"{number[request]} {type(request).__name__} loss"]

    assert loss("Finetuning", shadow) == loss("gold", shadow) == loss("original", shadow)
    assert loss("original", unlearned) == loss("original", shadow)
    assert loss("Identity", unlearned) == pytest.approx(loss("Identity", shadow), rel=1e-6)
    assert loss("gold", unlearned) != loss("gold", shadow)
    assert loss("Finetuning", unlearned) not in {loss("Finetuning", shadow), loss("gold", unlearned)}
    assert loss("Finetuning", Retrained(number=1)) != loss("Finetuning", Retrained(number=2))
    assert loss("Finetuning", Original(number=1)) != loss("Finetuning", Retrained(number=1))


def test_measures_that_ask_for_the_same_models_share_their_stages():
    one = _experiment(["Identity"], [PROBE])
    two = _experiment(["Identity"], [PROBE, {"class": PROBE, "parameters": {"forget": "forget", "test": "retain"}}])
    kinds = [[stage.kind for stage in make_plan(e, RunOptions()).stages.values()] for e in (one, two)]
    assert kinds[0].count("models") == kinds[1].count("models")
    assert kinds[0].count("models") < len(probing_measures.REQUESTS) * 3


def test_an_undeclared_request_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(probing_measures.Probe, "requests", lambda self, subject: [(Retrained(number=1), ("forget",))])
    experiment = _experiment(["Identity"], [PROBE])
    found = run_experiment(experiment, RunOptions(store=tmp_path / "store"))
    assert any("was not declared" in row.reason for row in found.rows)


def test_the_plan_of_another_repetition_has_other_shadows():
    experiment = _experiment(["Identity"], [PROBE])
    plans = [build_plan(experiment, [Seeds(split=0, train=seed, unlearn=0, evaluate=0)]) for seed in (0, 1)]
    blocks = [{a for a, stage in plan.stages.items() if stage.kind == "models"} for plan in plans]
    assert not blocks[0] & blocks[1]
