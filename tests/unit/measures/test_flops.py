from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
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


def _counted(population, remake):
    [value] = Flops().measure(_remaking(population, Flops(), remake))
    return value.value


def test_attention_counts_as_its_matrix_products(population):
    b, h, n, d = 2, 4, 10, 8
    q, k, v = (torch.randn(b, h, n, d, requires_grad=True) for _ in range(3))
    products = 2 * (2 * b * h * n * n * d)
    assert _counted(population, lambda: F.scaled_dot_product_attention(q, k, v)) == products
    assert _counted(population, lambda: F.scaled_dot_product_attention(q, k, v).sum().backward()) == 3 * products


@pytest.mark.parametrize(("layer", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_recurrent_layers_count_as_the_products_of_their_gates(population, layer, gates):
    net, x = layer(6, 8, batch_first=True), torch.randn(5, 7, 6)
    from_input, from_state = (2 * 5 * 7 * size * gates * 8 for size in (6, 8))
    with torch.no_grad():
        assert _counted(population, lambda: net(x)) == from_input + from_state
    # Backward: both weights, and every state but the first, which nobody asks for.
    assert _counted(population, lambda: net(x)[0].sum().backward()) == 2 * from_input + 3 * from_state - from_state // 7


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_transformer_layer_in_eval_mode_counts_what_it_does_in_training(population, mode):
    net, x = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), torch.randn(3, 5, 16)
    expected = 2 * 3 * 5 * (16 * 48 + 16 * 16 + 2 * 16 * 32) + 2 * (2 * 3 * 5 * 5 * 16)

    def forward():
        with mode():
            net(x)

    assert _counted(population, forward) == expected
    net.eval()
    assert _counted(population, forward) == expected


def test_products_with_vectors_and_linear_systems_are_counted(population):
    matrix, vector, columns = torch.eye(6), torch.ones(6), torch.ones(6, 2)
    for operation, expected in [
        (lambda: matrix @ vector, 72),
        (lambda: vector @ vector, 12),
        (lambda: torch.addmv(vector, matrix, vector), 72),
        (lambda: torch.addbmm(torch.zeros(6, 2), matrix.expand(3, 6, 6), columns.expand(3, 6, 2)), 3 * 144),
        (lambda: torch.linalg.cholesky(matrix), 72),
        (lambda: torch.cholesky_solve(columns, matrix), 144),
        (lambda: torch.linalg.solve(matrix, vector), 144 + 72),
        (lambda: torch.linalg.solve(matrix.expand(3, 6, 6), columns), 3 * (144 + 144)),
        (lambda: torch.linalg.solve_triangular(matrix, columns, upper=True), 72),
        (lambda: torch.linalg.inv(matrix), 432),
    ]:
        assert _counted(population, operation) == expected


def test_an_operator_without_a_formula_is_named_and_gives_no_number(population):
    bilinear = nn.Bilinear(4, 5, 6)
    with pytest.raises(RequirementNotMet, match=r"no formula for aten::_linalg_svd, aten::_trilinear,"):
        _counted(population, lambda: (bilinear(torch.ones(3, 4), torch.ones(3, 5)), torch.linalg.svd(torch.eye(3))))


def test_counting_leaves_the_kernels_of_the_process_as_they_were(population):
    def kernels():
        return (torch.backends.mkldnn.enabled, torch.backends.cudnn.enabled, torch.backends.mha.get_fastpath_enabled())

    before = kernels()
    seen = []
    _counted(population, lambda: seen.append(kernels()))
    assert seen == [(False, before[1], False)]
    assert kernels() == before


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
    with pytest.raises(RequirementNotMet, match="reruns the method"):
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
