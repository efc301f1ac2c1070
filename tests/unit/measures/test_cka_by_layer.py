import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from network_toys import WithFeatures, bench_of, network
from torch import nn

from erasure.errors import RequirementNotMet
from erasure.functional.cka import alignment, gram
from erasure.measures.cka import CKA
from erasure.training.graphs import NodeColumn


def _bench(make=network, **changes):
    return bench_of({"original": make(0), "mine": make(1), "gold": make(2)}, **changes)


def _values(measure, bench, model="mine"):
    return {value.name or measure.title: value.value for value in measure.measure(bench.evaluation(measure, model))}


def _outputs(model, bench, partition="forget"):
    """Output of each layer, by running its prefix."""
    x = bench.x[bench.partitions[partition]]
    first = model[0](x)
    second = model[2][0](model[1](first))
    return {"0": first, "2.0": second, "3": model(x)}


def _plain(x, y):
    x, y = ((z - z.mean(0)).detach().double() for z in (x, y))
    return float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


@pytest.mark.parametrize("reference", ["gold", "original"])
def test_every_layer_with_a_matrix_has_the_published_alignment(reference):
    bench = _bench()
    mine, other = (_outputs(bench.models[model], bench) for model in ("mine", reference))
    found = _values(CKA(reference=reference), bench)
    expected = {name: _plain(mine[name], other[name]) for name in mine}
    title = "CKA" if reference == "gold" else "CKA from original"
    assert found == pytest.approx(
        {title: sum(expected.values()) / 3, **{f"{title}[{name}]": number for name, number in expected.items()}}, abs=1e-6
    )


def test_gold_is_aligned_with_itself_and_so_is_gold_with_its_units_in_another_order():
    bench = _bench()
    gold = bench.models["gold"]
    shuffled = copy.deepcopy(gold)
    order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        shuffled[0].weight.copy_(gold[0].weight[order])
        shuffled[0].bias.copy_(gold[0].bias[order])
        shuffled[2][0].weight.copy_(gold[2][0].weight[:, order])
    bench = bench_of({**bench.models, "shuffled": shuffled})
    for model in ("gold", "shuffled"):
        for unbiased in (False, True):
            assert list(_values(CKA(unbiased=unbiased), bench, model).values()) == pytest.approx([1.0] * 4)


def test_the_unbiased_form_is_taken_where_it_is_asked_for():
    bench = _bench()
    mine, gold = (gram(_outputs(bench.models[model], bench)["0"].detach()) for model in ("mine", "gold"))
    found = _values(CKA(unbiased=True), bench)["unbiased CKA[0]"]
    assert found == pytest.approx(alignment(mine, gold, unbiased=True), abs=1e-6)
    assert found < _values(CKA(), bench)["CKA[0]"] - 0.05


def test_layers_can_be_named_and_unknown_ones_are_refused_with_the_nearest():
    bench = _bench(WithFeatures)
    assert list(_values(CKA(layers=("body", "")), bench)) == ["CKA", "CKA[body]", "CKA[model]"]
    with pytest.raises(RequirementNotMet, match='did you mean "body"'):
        _values(CKA(layers=("bodyy",)), bench)


def test_a_sample_of_a_large_partition_is_the_same_for_all_models():
    bench = _bench(n=400, sizes=(300, 100))
    few = _values(CKA(max_samples=40), bench)
    assert few == _values(CKA(max_samples=40), bench) and few != _values(CKA(), bench)
    assert _values(CKA(max_samples=40), bench, "gold")["CKA"] == pytest.approx(1.0)
    assert _values(CKA(max_samples=40), _bench(n=400, sizes=(300, 100), seed=0, batch_size=3)) == pytest.approx(few)


def test_convolutions_count_every_place_and_channel():
    def convolutional(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Unflatten(1, (1, 5)), nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(12, 3)
            ).eval()

    bench = _bench(convolutional)
    x = bench.x[bench.partitions["forget"]]
    maps = [bench.models[model][:2](x).flatten(1) for model in ("mine", "gold")]
    found = _values(CKA(), bench)
    assert found["CKA[1]"] == pytest.approx(_plain(*maps), abs=1e-6) and set(found) == {"CKA", "CKA[1]", "CKA[4]"}


def test_a_dead_layer_shares_nothing_with_a_live_one():
    bench = _bench()
    with torch.no_grad():
        bench.models["mine"][3].weight.zero_()
    assert _values(CKA(), bench)["CKA[3]"] == 0.0


def test_hooks_are_gone_afterwards_and_gradients_are_not_followed():
    bench = _bench()
    _values(CKA(), bench)
    assert not any(module._forward_hooks for model in bench.models.values() for module in model.modules())


def test_what_cannot_be_aligned_is_refused_with_the_reason():
    with pytest.raises(RequirementNotMet, match="at least 4 samples"):
        _values(CKA(unbiased=True), _bench(sizes=(3, 57)))
    flat = bench_of({"mine": nn.Identity(), "gold": nn.Identity()})
    with pytest.raises(RequirementNotMet, match="no layer with a matrix"):
        _values(CKA(), flat)
    broken = _bench()
    with torch.no_grad():
        broken.models["mine"][0].bias.fill_(float("inf"))
    with pytest.raises(RequirementNotMet, match="not finite"):
        _values(CKA(), broken)


class OnNodes(nn.Module):
    """Sums over neighbours, then a layer on every node, and the logits of the samples."""

    def __init__(self, seed):
        super().__init__()
        self.body, _, self.head = network(seed)[:3]

    def forward(self, batch):
        first, second = batch.edge_index
        return self.head(self.body(batch.x.index_add(0, second, batch.x[first])).relu()[batch.rows])


@pytest.mark.parametrize("is_whole", [True, False])
def test_of_the_nodes_of_a_graph_those_of_the_partition_count_as_the_whole_partition_sees_them(is_whole):
    generator = torch.Generator().manual_seed(3)
    plain = _bench(OnNodes)
    edges = torch.randint(0, 60, (2, 300), generator=generator)
    background = None if is_whole else torch.ones(60, dtype=torch.bool).index_fill(0, plain.partitions["forget"], False)
    column = NodeColumn(plain.x, edges, background=background)
    measure = CKA(max_samples=12)
    evaluation = replace(plain.evaluation(measure, "mine"), x=column)
    found = {value.name or measure.title: value.value for value in measure.measure(evaluation)}
    forget = plain.partitions["forget"].sort().values
    chosen = forget[torch.from_numpy(np.sort(evaluation.streams.numpy("samples").permutation(20)[:12]))]
    # A partition sees the background and itself: here that is every node.
    summed = plain.x.index_add(0, edges[1], plain.x[edges[0]])
    hidden = {model: plain.models[model].body(summed)[chosen] for model in ("mine", "gold")}
    assert found["CKA[body]"] == pytest.approx(_plain(hidden["mine"], hidden["gold"]), abs=1e-6)
    logits = {model: plain.models[model].head[0](hidden[model].relu()) for model in hidden}
    assert found["CKA[head.0]"] == pytest.approx(_plain(logits["mine"], logits["gold"]), abs=1e-6)
