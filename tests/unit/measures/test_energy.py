import importlib.util
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from population_toys import Population

from erasure.errors import RequirementNotMet
from erasure.measures.energy import Energy, _by_rapl, _Counters

HAS_CODECARBON = importlib.util.find_spec("codecarbon") is not None
HAS_RAPL = any(Path("/sys/class/powercap").glob("intel-rapl:*"))
LARGEST = 262_143_328_850


@pytest.fixture(scope="module")
def population():
    made = Population()
    made.model(None, "original")
    return made


def _zone(folder, zone, name, energy, largest=LARGEST):
    path = folder / zone
    path.mkdir(parents=True, exist_ok=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy}\n")
    (path / "max_energy_range_uj").write_text(f"{largest}\n")
    return path / "energy_uj"


def test_packages_and_memory_are_added_and_their_parts_and_the_platform_are_not(tmp_path):
    zones = {
        "intel-rapl:0": ("package-0", 1_000_000),
        "intel-rapl:0:0": ("core", 10_000_000),
        "intel-rapl:0:1": ("dram", 100_000),
        "intel-rapl:1": ("package-1", 3_000_000),
        "intel-rapl:2": ("psys", 50_000_000),
    }
    files = {zone: (_zone(tmp_path, zone, name, 500), used) for zone, (name, used) in zones.items()}
    (tmp_path / "intel-rapl").mkdir()

    def work():
        for path, used in files.values():
            path.write_text(f"{500 + used}\n")

    assert _by_rapl(work, _Counters(tmp_path)) == pytest.approx(1.0 + 0.1 + 3.0)


def test_a_counter_that_wraps_around_goes_on(tmp_path):
    path = _zone(tmp_path, "intel-rapl:0", "package-0", LARGEST - 2_000_000)
    counters = _Counters(tmp_path)
    for energy, total in (
        (LARGEST - 500_000, 1.5),
        (1_000_000, 3.0),
        (1_000_000, 3.0),
        (LARGEST - 1, 262145.328849),
        (0, 262145.32885),
    ):
        path.write_text(f"{energy}\n")
        counters.read()
        assert counters.joules == pytest.approx(total, abs=1e-9)


def test_counters_are_read_meanwhile_so_that_several_wraps_are_seen(tmp_path):
    path = _zone(tmp_path, "intel-rapl:0", "package-0", 0, largest=1000)
    counters = _Counters(tmp_path)
    totals = {900: 900, 100: 1100, 901: 1901, 101: 2101, 902: 2902, 102: 3102}

    def work():
        for energy, total in totals.items():
            # At once, so that nobody reads half a number.
            path.with_name("next").write_text(f"{energy}\n")
            path.with_name("next").replace(path)
            deadline = time.monotonic() + 30
            while counters.joules != total / 1e6 and time.monotonic() < deadline:
                time.sleep(0.001)

    assert _by_rapl(work, counters, period_s=0.001) == 3102 / 1e6


def test_the_method_is_really_run(tmp_path, population):
    path = _zone(tmp_path, "intel-rapl:0", "package-0", 0)
    made = []

    def remake():
        made.append(population._made(None, "repaired"))
        path.write_text("7000000\n")

    with torch.no_grad():
        assert _by_rapl(remake, _Counters(tmp_path)) == 7.0
    expected = population.model(None, "repaired").state_dict()
    assert all(torch.equal(expected[name], w) for name, w in made[0].state_dict().items())


def test_an_error_of_the_method_is_not_hidden(tmp_path):
    _zone(tmp_path, "intel-rapl:0", "package-0", 0)

    def fail():
        raise ValueError("broken method")

    with pytest.raises(ValueError, match="broken method"):
        _by_rapl(fail, _Counters(tmp_path))


def test_a_machine_without_counters_is_refused(tmp_path):
    with pytest.raises(RequirementNotMet, match="no energy counters"):
        _Counters(tmp_path)
    _zone(tmp_path, "intel-rapl:0", "psys", 0)
    with pytest.raises(RequirementNotMet, match="no energy counters"):
        _Counters(tmp_path)


def test_counters_that_cannot_be_read_are_refused(tmp_path):
    _zone(tmp_path, "intel-rapl:0", "package-0", "nonsense")
    with pytest.raises(RequirementNotMet, match=r"cannot be read .*nonsense"):
        _Counters(tmp_path)


def test_where_nothing_can_be_metered_there_is_no_value_or_the_reason(population):
    evaluation = population.evaluation(Energy())
    never = replace(evaluation, subject=replace(evaluation.subject, remake=None))
    assert Energy().measure(never) == ()
    with pytest.raises(RequirementNotMet, match="reruns the method"):
        Energy(optional=False).measure(never)


@pytest.mark.skipif(HAS_CODECARBON, reason="CodeCarbon is installed")
def test_a_missing_codecarbon_is_named(population):
    with pytest.raises(RequirementNotMet, match="pip install codecarbon"):
        Energy(meter="codecarbon", optional=False).measure(population.evaluation(Energy()))


@pytest.mark.skipif(HAS_RAPL, reason="this machine has energy counters")
def test_missing_counters_are_named(population):
    assert Energy(meter="rapl").measure(population.evaluation(Energy())) == ()
    with pytest.raises(RequirementNotMet, match="no energy counters"):
        Energy(meter="rapl", optional=False).measure(population.evaluation(Energy()))


def test_counters_of_the_processor_do_not_stand_for_an_accelerator(population):
    evaluation = replace(population.evaluation(Energy()), y=torch.zeros(1, device="meta"))
    with pytest.raises(RequirementNotMet, match="nothing of the work on meta"):
        Energy(meter="rapl", optional=False).measure(evaluation)


@pytest.mark.skipif(not HAS_CODECARBON, reason="CodeCarbon is not installed")
def test_codecarbon_meters_something(population):
    evaluation = population.evaluation(Energy())
    asleep = replace(evaluation, subject=replace(evaluation.subject, remake=lambda: time.sleep(2)))
    [value] = Energy(meter="codecarbon", optional=False).measure(asleep)
    assert 0.1 < value.value < 10_000


def test_energy_is_a_cost_without_ideal():
    assert (Energy.higher_is_better, Energy.ideal, Energy.unit) == (False, None, "J")
