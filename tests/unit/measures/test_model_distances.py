"""Distances over weights and module outputs, against upstream's formulas written out sample by sample."""

import copy

import numpy as np
import pytest
import torch
from network_toys import WithFeatures, bench_of, network
from scipy.spatial.distance import directed_hausdorff, jensenshannon
from scipy.special import kl_div
from torch import nn

from erasure.component import canonical
from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.measures.activations import LegacyActivationDistance
from erasure.measures.model_distance import ModelDistance
from erasure.measures.weights import WeightDistance


def _softmax(matrix):
    return torch.clamp(torch.softmax(matrix.detach().double().flatten(), dim=0), 1e-5).numpy()


def _rows(matrix):
    return matrix.detach().double().reshape(len(matrix), -1)


_UPSTREAM = {
    "l2norm": lambda a, b: float(torch.norm(a.detach() - b.detach())),
    "hausdorff": lambda a, b: directed_hausdorff(_rows(a).numpy(), _rows(b).numpy())[0],
    "kldivergence": lambda a, b: kl_div(_softmax(a), _softmax(b)).sum(),
    "jsdistance": lambda a, b: jensenshannon(_softmax(a), _softmax(b)),
}


def _activations(model, x):
    """Outputs of all modules, noted without copying, in the order in which they run."""
    found = []

    def hook(module, inputs, output):
        found.append((output[1] if isinstance(output, tuple) else output).detach())

    handles = [module.register_forward_hook(hook) for module in model.modules()]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return found


def _upstream(name, first, second, block_diag):
    if block_diag:
        first, second = ([torch.block_diag(*(_rows(m) for m in side))] for side in (first, second))
    return np.mean([_UPSTREAM[name](a, b) for a, b in zip(first, second, strict=True)])


def _sample_by_sample(bench, name, block_diag=False):
    original, mine = bench.models["original"], bench.models["mine"]
    samples = [bench.x[i : i + 1].clone() for i in bench.partitions["forget"].tolist()]
    return np.mean([_upstream(name, _activations(original, x), _activations(mine, x), block_diag) for x in samples])


def _bench(make=network):
    return bench_of({"original": make(0), "mine": make(1), "gold": make(2)})


def _values(measure, bench, model="mine"):
    return {value.name or measure.title: value.value for value in measure.measure(bench.evaluation(measure, model))}


@pytest.mark.parametrize("block_diag", [False, True])
@pytest.mark.parametrize("name", _UPSTREAM)
def test_weights_are_compared_by_upstreams_formulas(name, block_diag):
    bench = _bench()
    mine, original = (list(bench.models[model].parameters()) for model in ("mine", "original"))
    found = _values(ModelDistance(function=name, block_diag=block_diag), bench)
    assert found == {f"{name} of weights": pytest.approx(_upstream(name, mine, original, block_diag), abs=1e-6)}


@pytest.mark.parametrize("block_diag", [False, True])
@pytest.mark.parametrize("name", _UPSTREAM)
def test_activations_are_compared_by_upstreams_formulas_sample_by_sample(name, block_diag):
    bench = _bench(lambda seed: network(seed, inplace=True))
    found = _values(ModelDistance(function=name, activations=True, block_diag=block_diag), bench)
    assert found == {f"{name} of activations": pytest.approx(_sample_by_sample(bench, name, block_diag), abs=1e-6)}


@pytest.mark.parametrize("make", [network, lambda seed: network(seed, inplace=True), WithFeatures])
def test_the_legacy_activation_distance_is_upstreams(make):
    bench = _bench(make)
    assert _values(LegacyActivationDistance(), bench) == {
        "LegacyActivationDistance": pytest.approx(_sample_by_sample(bench, "l2norm"), abs=1e-6)
    }


def test_hooks_are_gone_afterwards_and_the_original_has_no_distance():
    bench = _bench()
    for measure in (LegacyActivationDistance(), ModelDistance(activations=True), ModelDistance()):
        [number] = _values(measure, bench, "original").values()
        assert number == 0.0
    assert not any(module._forward_hooks for model in bench.models.values() for module in model.modules())


def test_upstreams_spellings_of_the_function_are_understood():
    plain = ModelDistance(function="hausdorff")
    dotted = ModelDistance(function="erasure.evaluations.distances.hausdorff")
    node = ModelDistance(function={"class": "erasure.evaluations.distances.hausdorff", "parameters": {}})
    assert canonical(plain) == canonical(dotted) == canonical(node)
    with pytest.raises(InvalidParameters, match="l2norm"):
        ModelDistance(function="erasure.evaluations.distances.l3norm")


def test_only_activations_need_a_partition():
    assert ModelDistance().partitions() == ()
    assert ModelDistance(activations=True, partition="test").partitions() == ("test",)


class _TokensFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(5, 3)

    def forward(self, x):
        return self.layer(x[None].expand(2, -1, -1))[0]


def test_outputs_without_a_row_for_each_sample_are_refused():
    bench = bench_of({"original": _TokensFirst(), "mine": _TokensFirst()})
    with pytest.raises(RequirementNotMet, match='"layer" is not one row'):
        _values(LegacyActivationDistance(), bench)


def test_models_of_different_shapes_are_refused():
    models = {"original": network(0), "gold": network(0), "mine": nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))}
    bench = bench_of(models)
    for measure in (ModelDistance(), WeightDistance(), LegacyActivationDistance()):
        with pytest.raises(RequirementNotMet, match="differ"):
            _values(measure, bench)


# Relative weight distance


def _flat(model, prefix=""):
    return torch.cat([p.detach().double().flatten() for name, p in model.named_parameters() if name.startswith(prefix)]).numpy()


@pytest.mark.parametrize("reference", ["gold", "original"])
def test_the_relative_distance_is_a_quotient_of_norms(reference):
    bench = _bench()
    found = _values(WeightDistance(reference=reference, by_layer=True), bench)
    expected, title = {}, "WeightDistance" if reference == "gold" else "WeightDistance from original"
    for key, prefix in ((title, ""), *((f"{title}[{layer}]", f"{layer}.") for layer in ("0", "2.0", "3"))):
        mine, other = (_flat(bench.models[model], prefix) for model in ("mine", reference))
        expected[key] = pytest.approx(np.linalg.norm(mine - other) / np.linalg.norm(other))
    assert found == expected
    assert list(_values(WeightDistance(reference=reference), bench)) == [title]


def test_equal_weights_have_no_distance_and_twice_the_weights_one_of_one():
    bench = _bench()
    doubled = copy.deepcopy(bench.models["gold"])
    with torch.no_grad():
        for parameter in doubled.parameters():
            parameter.mul_(2)
    bench = bench_of({**bench.models, "doubled": doubled})
    assert set(_values(WeightDistance(by_layer=True), bench, "gold").values()) == {0.0}
    assert list(_values(WeightDistance(by_layer=True), bench, "doubled").values()) == pytest.approx([1.0] * 4)


def test_a_layer_of_zeros_is_nothing_to_be_relative_to():
    bench = _bench()
    with torch.no_grad():
        for parameter in bench.models["gold"][0].parameters():
            parameter.zero_()
    assert "WeightDistance" in _values(WeightDistance(), bench)
    with pytest.raises(RequirementNotMet, match="all weights of 0 are 0"):
        _values(WeightDistance(by_layer=True), bench)
