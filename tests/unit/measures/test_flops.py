from dataclasses import replace

import pytest
import torch
from population_toys import SIZES, Population, run_rows
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from erasure.errors import InvalidParameters, RequirementNotMet
from erasure.measures.flops import Flops, HardwareCounters


@pytest.fixture(scope="module")
def population():
    made = Population()
    made.model(None, "original")
    return made


def _remaking(population, measure, remake, way="repaired"):
    evaluation = population.evaluation(measure, way)
    return replace(evaluation, subject=replace(evaluation.subject, remake=remake))


def _by_hand(model, n_samples):
    """Forward 2 m k for each linear layer, backward as much for the weights, and for the inputs of all but the first."""
    products = [2 * layer.in_features * layer.out_features for layer in model.modules() if isinstance(layer, nn.Linear)]
    return n_samples * (2 * sum(products) + sum(products[1:]))


@pytest.mark.parametrize(
    ("way", "n_samples"),
    [("gold", 25 * SIZES["retain"]), ("original", 25 * (SIZES["retain"] + SIZES["forget"])), ("repaired", 3 * SIZES["retain"])],
)
def test_training_counts_the_matrix_products_of_every_sample(population, way, n_samples):
    [value] = Flops().measure(population.evaluation(Flops(), way))
    assert value.value == _by_hand(population.model(None, way), n_samples)


def test_a_method_that_does_nothing_costs_nothing(population):
    [value] = Flops().measure(population.evaluation(Flops(), "identity"))
    assert value.value == 0


def test_counting_does_not_change_the_model(population):
    before = {name: w.clone() for name, w in population.model(None, "repaired").state_dict().items()}
    made = []
    evaluation = _remaking(population, Flops(), lambda: made.append(population._made(None, "repaired")))
    Flops().measure(evaluation)
    assert all(torch.equal(before[name], w) for name, w in made[0].state_dict().items())
    assert all(torch.equal(before[name], w) for name, w in population.model(None, "repaired").state_dict().items())


def test_gradients_are_counted_where_the_caller_has_switched_them_off(population):
    with torch.no_grad():
        [value] = Flops().measure(population.evaluation(Flops(), "repaired"))
    assert value.value == _by_hand(population.model(None, "repaired"), 3 * SIZES["retain"])


def test_convolutions_are_counted(population):
    net, x = nn.Conv2d(2, 3, 3), torch.randn(4, 2, 8, 8)
    evaluation = _remaking(population, Flops(), lambda: net(x))
    [value] = Flops().measure(evaluation)
    assert value.value == 2 * 4 * 3 * 6 * 6 * 2 * 9


def test_an_error_of_the_method_is_not_hidden_and_ends_the_counting(population):
    def fail():
        raise ValueError("broken method")

    with pytest.raises(ValueError, match="broken method"):
        Flops().measure(_remaking(population, Flops(), fail))
    with FlopCounterMode(display=False) as counter:
        torch.ones(2, 3) @ torch.ones(3, 4)
    assert counter.get_total_flops() == 48


@pytest.mark.parametrize("measure", [Flops(), HardwareCounters()])
def test_what_cannot_be_made_again_is_refused(population, measure):
    with pytest.raises(RequirementNotMet, match="make the model once more"):
        measure.measure(_remaking(population, measure, None))


def test_in_a_run_the_engine_makes_the_models_again(tmp_path):
    rows = run_rows([{"class": "erasure.measures.flops.Flops"}], ["Identity"], tmp_path)
    # 30 epochs of 90 training samples, of which 54 are retained, in a network of 20 inputs, 16 hidden units and 3 classes.
    each = 2 * 2 * (20 * 16 + 16 * 3) + 2 * 16 * 3
    assert rows["original", "Flops", ""] == 30 * 90 * each
    assert rows["gold", "Flops", ""] == rows["GoldModel", "Flops", ""] == 30 * 54 * each
    assert rows["Identity", "Flops", ""] == 0


def test_hardware_counters_say_what_to_install(population):
    try:
        import pypapi  # noqa: F401
    except ImportError:
        with pytest.raises(RequirementNotMet, match="pip install python-papi"):
            HardwareCounters().measure(population.evaluation(HardwareCounters(), "repaired"))
    else:
        pytest.skip("PAPI is installed")


def test_hardware_counters_grow_with_the_work(population):
    pytest.importorskip("pypapi", reason="PAPI is not installed")
    measure = HardwareCounters(events=("PAPI_TOT_INS",))
    try:
        found = {way: measure.measure(population.evaluation(measure, way))[0] for way in ("identity", "repaired")}
    except RequirementNotMet as reason:
        pytest.skip(str(reason))
    assert found["repaired"].name == "HardwareCounters PAPI_TOT_INS"
    assert found["repaired"].value > found["identity"].value


def test_hardware_counters_need_an_event():
    with pytest.raises(InvalidParameters, match="events"):
        HardwareCounters(events=())
