import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from network_toys import bench_of, network
from torch import nn

from erasure.errors import PartitionError, RequirementNotMet
from erasure.measures import relearn_time
from erasure.measures.contract import forward_pass
from erasure.measures.relearn_time import AIN, RelearnTime
from erasure.training.calls import Criterion, Optimizer
from erasure.training.graphs import NodeColumn
from erasure.training.randomness import Streams


def _fitted(seed, x, y, ids, steps=150):
    model = network(seed).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x[ids]), y[ids]).backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(scope="module")
def bench():
    blank = bench_of({})
    x, y, forget = blank.x, blank.y, blank.partitions["forget"]
    models = {
        "original": _fitted(0, x, y, torch.arange(60)),
        "gold": _fitted(1, x, y, blank.partitions["test"]),
        "hidden": _fitted(0, x, y, torch.arange(60)),
        "far": _fitted(2, x, (y + 1) % 3, forget),
    }
    with torch.no_grad():
        models["hidden"][3].bias += torch.tensor([6.0, 0.0, 0.0])
    return replace(blank, models=models)


def _found(bench, measure, model):
    return {value.name or measure.title: value.value for value in measure.measure(bench.evaluation(measure, model))}


_FAST = {"optimizer": Optimizer.of("Adam", lr=0.01), "batch_size": 8}


def _by_hand(bench, model, measure, *, n_units, in_epochs=False):
    """Steps or epochs until the accuracy is back, by a plain loop over the same batches."""
    forget = bench.partitions["forget"].sort().values
    x, y = bench.x, bench.y
    model = copy.deepcopy(model).train()
    optimizer = measure.optimizer.build(list(model.parameters()))
    generator = bench.evaluation(measure, "gold").streams.torch("shuffle")
    wanted = (1 - measure.alpha) * (bench.models["original"](x[forget]).argmax(1) == y[forget]).double().mean()

    def reached():
        with torch.no_grad():
            return (model.eval()(x[forget]).argmax(1) == y[forget]).double().mean() >= wanted

    def pass_over():
        order = forget[torch.randperm(len(forget), generator=generator)]
        for ids in order.split(measure.batch_size):
            model.train()
            optimizer.zero_grad()
            F.cross_entropy(model(x[ids]), y[ids]).backward()
            optimizer.step()
            yield

    if reached():
        return 0
    n = 0
    while n < n_units:
        for _ in pass_over():
            n += not in_epochs
            if not in_epochs and reached():
                return n
        n += in_epochs
        if in_epochs and reached():
            return n
    return n_units


@pytest.mark.parametrize("model", ["original", "gold", "hidden", "far"])
@pytest.mark.parametrize(("count", "alpha"), [("steps", 0.05), ("epochs", 0.05), ("steps", 0.4)])
def test_the_time_is_that_of_a_loop_written_by_hand(bench, model, count, alpha):
    measure = RelearnTime(count=count, alpha=alpha, **_FAST)
    found = _found(bench, measure, model)
    expected = _by_hand(bench, bench.models[model], measure, n_units=200, in_epochs=count == "epochs")
    assert found == {measure.title: expected, f"{measure.title} censored": 0.0}
    if alpha == RelearnTime().alpha:
        assert (expected == 0) == (model == "original")


def test_samples_that_stay_wrong_are_enough_to_look_at(bench, monkeypatch):
    looked_at = []

    def counted(model, **given):
        looked_at.append(len(given["ids"]))
        return forward_pass(model, **given)

    monkeypatch.setattr(relearn_time, "forward_pass", counted)
    measure = RelearnTime(**_FAST)
    time = _found(bench, measure, "far")["RelearnTime"]
    n = len(bench.partitions["forget"])
    assert min(looked_at) < n / 2 < looked_at[-1] == n
    assert sum(looked_at) < 0.8 * time * n
    monkeypatch.setattr(relearn_time, "_n_surely_wrong", lambda found: 0)
    assert _found(bench, measure, "far")["RelearnTime"] == time


def test_what_is_only_hidden_is_learned_again_sooner_than_what_was_never_known(bench):
    times = {model: _found(bench, RelearnTime(**_FAST), model)["RelearnTime"] for model in ("hidden", "gold", "far")}
    assert 0 < times["hidden"] < min(times["gold"], times["far"])


def test_the_cap_cuts_a_time_off_and_says_so(bench):
    found = _found(bench, RelearnTime(cap=2, **_FAST), "far")
    assert found == {"RelearnTime": 2, "RelearnTime censored": 1.0}
    found = _found(bench, AIN(cap=2, **_FAST), "far")
    assert found["AIN censored"] == 1.0 and found["AIN time"] == 2


def test_the_target_may_be_the_loss_within_a_tolerance(bench):
    times = [_found(bench, RelearnTime(target="loss", alpha=a, **_FAST), "gold")["RelearnTime by loss"] for a in (0.0, 0.5, 1.0)]
    assert 0 < times[2] <= times[1] <= times[0]
    assert _found(bench, RelearnTime(target="loss", alpha=0.0, **_FAST), "original")["RelearnTime by loss"] == 0


def test_gold_has_an_index_of_exactly_one_and_the_original_one_of_almost_zero(bench):
    gold = _found(bench, AIN(**_FAST), "gold")
    assert gold["AIN"] == 1.0 and gold["AIN time"] == gold["AIN time of gold"] > 0
    original = _found(bench, AIN(**_FAST), "original")
    assert original["AIN time"] == 0 and original["AIN"] == pytest.approx(0.01 / (gold["AIN time"] + 0.01))


def test_the_index_is_the_ratio_of_two_relearn_times(bench):
    for model in ("hidden", "far"):
        mine, gold = (_found(bench, RelearnTime(**_FAST), name)["RelearnTime"] for name in (model, "gold"))
        found = _found(bench, AIN(**_FAST), model)
        assert (found["AIN time"], found["AIN time of gold"]) == (mine, gold)
        assert found["AIN"] == pytest.approx((mine + 0.01) / (gold + 0.01))


def test_where_gold_knows_enough_from_the_start_nothing_is_divided_by_zero(bench):
    easy = replace(bench, models={**bench.models, "original": bench.models["far"]})
    assert _found(easy, AIN(**_FAST), "gold")["AIN"] == 1.0


def test_every_model_gets_the_same_dropout_and_the_global_generator_none(bench):
    def noisy(name):
        return nn.Sequential(nn.Dropout(0.3), *copy.deepcopy(bench.models[name])).eval()

    dropping = replace(bench, models={name: noisy(name) for name in bench.models})
    state = torch.get_rng_state()
    first, second = (_found(dropping, AIN(**_FAST), "gold") for _ in range(2))
    assert first == second and first["AIN"] == 1.0
    assert torch.equal(torch.get_rng_state(), state)


def test_frozen_weights_are_trained_too_and_stay_frozen_in_the_model(bench):
    frozen = copy.deepcopy(bench.models["far"]).requires_grad_(False)
    with_frozen = replace(bench, models={**bench.models, "frozen": frozen})
    assert _found(with_frozen, RelearnTime(**_FAST), "frozen") == _found(bench, RelearnTime(**_FAST), "far")
    assert not any(p.requires_grad for p in frozen.parameters())


def test_fewer_samples_can_be_looked_at_and_another_partition_trained_on(bench):
    measure = RelearnTime(eval_samples=5, relearn="test", **_FAST)
    assert measure.partitions() == ("forget", "test")
    assert _found(bench, measure, "original") == {"RelearnTime": 0, "RelearnTime censored": 0.0}
    assert _found(bench, measure, "far") == _found(bench, measure, "far")


def test_divergence_and_empty_partitions_are_refused_with_the_reason(bench):
    wild = RelearnTime(optimizer=Optimizer.of("SGD", lr=1e30), batch_size=8)
    with pytest.raises(RequirementNotMet, match="diverged"):
        _found(bench, wild, "far")
    # Everything is finite after the first step, and no number of a model.
    with pytest.raises(RequirementNotMet, match="diverged after 1 steps"):
        _found(bench, RelearnTime(optimizer=Optimizer.of("SGD", lr=1e14), batch_size=8), "far")
    # The loss of the only batch is finite, and the step that it leads to is not; the first of numbers that are none is class 0.
    first = replace(
        bench, y=torch.zeros_like(bench.y), models={**bench.models, "far": _fitted(2, bench.x, bench.y * 0 + 1, torch.arange(60))}
    )
    first.models["original"] = _fitted(0, first.x, first.y, torch.arange(60), steps=20)
    with pytest.raises(RequirementNotMet, match="diverged after 1 steps"):
        _found(first, RelearnTime(optimizer=Optimizer.of("SGD", lr=1e38), cap=1, batch_size=256), "far")
    nothing = replace(bench, partitions={**bench.partitions, "none": torch.zeros(0, dtype=torch.int64)})
    with pytest.raises(PartitionError, match='"none" is empty'):
        _found(nothing, RelearnTime(relearn="none"), "far")


class CountsNeighbours(nn.Module):
    """Says class 1 of nodes with neighbours if its weight is positive; of lonely nodes it knows nothing."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))

    def forward(self, batch):
        first, second = batch.edge_index
        n = torch.zeros(len(batch.x)).index_add(0, second, torch.ones(len(first)))[batch.rows]
        return torch.stack([torch.zeros_like(n), self.weight * n], dim=1)


def test_the_nodes_that_are_looked_at_see_their_whole_partition():
    models = {"original": CountsNeighbours(1.0), "mine": CountsNeighbours(-1.0)}
    given = bench_of(models)
    forget = given.partitions["forget"]
    ring = torch.stack([forget, forget.roll(1)])
    background = torch.ones(60, dtype=torch.bool).index_fill(0, forget, False)
    measure = RelearnTime(eval_samples=1, cap=20, optimizer=Optimizer.of("SGD", lr=1.0))
    column, y = NodeColumn(given.x, ring, background=background), torch.ones_like(given.y)

    def said(model):
        return lambda name: forward_pass(
            models[model], x=column, y=y, ids=given.partitions[name], criterion=Criterion("classification"), task="classification"
        )

    evaluation = given.evaluation(measure, "mine")
    evaluation = replace(
        evaluation,
        x=column,
        y=y,
        subject=replace(evaluation.subject, outputs=said("mine")),
        references={"original": replace(evaluation.references["original"], outputs=said("original"))},
    )
    time, censored = (value.value for value in measure.measure(evaluation))
    assert 0 < time < 20 and not censored


def test_a_model_learns_again_once_whichever_measures_ask(bench):
    kept, computed = {}, []

    def sharing(model, described, compute):
        key = repr((id(model), sorted(described.items())))
        if key not in kept:
            computed.append(next(name for name, each in bench.models.items() if each is model))
            kept[key] = compute()
        return kept[key]

    def found(measure, subject):
        evaluation = bench.evaluation(measure, subject)
        changed = replace(evaluation, streams=Streams(bench.seed).child(measure.stream), sharing=sharing)
        return {value.name or measure.title: value.value for value in measure.measure(changed)}

    times = {subject: found(RelearnTime(**_FAST), subject)["RelearnTime"] for subject in ("far", "hidden")}
    indices = {subject: found(AIN(**_FAST), subject) for subject in ("far", "hidden")}
    assert {subject: index["AIN time"] for subject, index in indices.items()} == times
    assert computed == ["far", "hidden", "gold"]
    found(RelearnTime(alpha=0.4, **_FAST), "far")
    assert len(computed) == 4
    found(AIN(relearn="test", **_FAST), "far")
    assert len(computed) == 6


def _dead():
    """All ReLUs are off, so that nothing but the bias of the logits can learn."""
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    with torch.no_grad():
        model[0].bias.fill_(-1e6)
    return model


@pytest.mark.parametrize("count", ["steps", "epochs"])
def test_a_model_that_cannot_learn_again_gets_the_cap_after_two_passes(bench, count):
    measure = RelearnTime(cap=50, count=count, **_FAST)
    evaluation = replace(bench, models={**bench.models, "dead": _dead()}).evaluation(measure, "dead")
    batches = []

    def criterion(logits, y):
        batches.append(len(y))
        return F.cross_entropy(logits, y)

    criterion.per_sample = Criterion("classification").per_sample
    found = {value.name: value.value for value in measure.measure(replace(evaluation, criterion=criterion))}
    assert found["RelearnTime in epochs censored" if count == "epochs" else "RelearnTime censored"] == 1.0
    assert 50 in found.values()
    assert sum(batches) == 2 * len(bench.partitions["forget"])


def test_a_model_whose_units_dropout_may_wake_is_not_given_up(bench):
    """Two passes are a few draws; a later one may drop what holds a unit off."""
    asleep, batches = nn.Sequential(nn.Dropout(0.5), *_dead()).eval(), []
    measure = RelearnTime(cap=20, **_FAST)
    evaluation = replace(bench, models={**bench.models, "asleep": asleep}).evaluation(measure, "asleep")

    def criterion(logits, y):
        batches.append(len(y))
        return F.cross_entropy(logits, y)

    criterion.per_sample = Criterion("classification").per_sample
    measure.measure(replace(evaluation, criterion=criterion))
    assert len(batches) == 20


def test_a_dead_model_that_a_constant_answer_serves_learns_it(bench):
    same = torch.zeros_like(bench.y)
    constant = replace(bench, y=same, models={**bench.models, "original": _saying(0), "dead": _dead()})
    found = _found(constant, RelearnTime(cap=50, optimizer=Optimizer.of("Adam", lr=1.0), batch_size=8), "dead")
    assert found["RelearnTime censored"] == 0.0


def _saying(k):
    """The same class for every sample."""
    model = _dead()
    with torch.no_grad():
        model[2].bias.copy_(F.one_hot(torch.tensor(k), 3).float())
    return model
