"""Columns that stay in a file: the same batches, statistics and copies as from memory, and no more memory than a few batches need."""

import json
import subprocess
import sys
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from erasure.data.dataset import Dataset
from erasure.data.on_disk import GIB, empty_column, left_on_disk
from erasure.data.partitions import inspect_partitions
from erasure.data.standardise import standardised
from erasure.data.storage import from_artifact, to_artifact
from erasure.training.batches import Batches, TensorColumn
from erasure.training.mapped import MappedColumn
from erasure.training.reading import ahead

CPU = torch.device("cpu")
N = 3000


def table(values):
    facts = {"name": "some", "y": torch.arange(len(values)) % 2, "n_classes": 2, "x_shape": tuple(values.shape[1:])}
    return Dataset(x=TensorColumn(values), **facts)


def pictures():
    values = torch.randint(0, 256, (N, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    x = TensorColumn(values, scale=1 / 255, mean=torch.full((3, 1, 1), 0.4), std=torch.full((3, 1, 1), 0.3))
    return Dataset(name="some", x=x, y=torch.arange(N) % 5, n_classes=5, x_shape=(3, 8, 8), modality="image")


def on_disk(data, folder, cap_gib=1e-9):
    tensors, facts = to_artifact(data)
    save_file(tensors, folder / "columns.safetensors")
    return left_on_disk(from_artifact(load_file(folder / "columns.safetensors"), facts), folder / "columns.safetensors", cap_gib)


@pytest.mark.parametrize("make", [pictures, lambda: table(torch.randn(N, 20)), lambda: table(torch.randn(N, 7).bfloat16())])
def test_batches_from_a_file_are_those_from_memory(make, tmp_path):
    data = make()
    mapped = on_disk(data, tmp_path)
    assert isinstance(mapped.x, MappedColumn)
    ids = torch.randperm(N, generator=torch.Generator().manual_seed(2))[:2500]
    batches = [
        list(Batches(x.to(CPU), data.y, ids, 64, torch.Generator().manual_seed(3))) for x in (data.x, mapped.x) for _ in "ab"
    ]
    for ours in batches[1:]:
        for expected, found in zip(batches[0], ours, strict=True):
            assert torch.equal(found.x, expected.x)
            assert torch.equal(found.y, expected.y)
            assert torch.equal(found.ids, expected.ids)


def test_below_the_cap_and_without_one_columns_are_as_they_were(tmp_path):
    data = pictures()
    assert type(on_disk(data, tmp_path, cap_gib=None).x) is TensorColumn
    assert type(on_disk(data, tmp_path, cap_gib=data.x.values.nbytes / GIB).x) is TensorColumn
    assert type(on_disk(data, tmp_path, cap_gib=(data.x.values.nbytes - 1) / GIB).x) is MappedColumn


def test_a_table_is_scaled_as_it_would_be_in_memory(tmp_path):
    values = torch.randn(N, 6) * torch.tensor([1.0, 10.0, 1e4, 1e-3, 0.0, 1.0]) + 5
    data, ids = table(values), torch.arange(0, N, 2)
    expected, found = standardised(data, ids), standardised(on_disk(data, tmp_path), ids)
    assert isinstance(found, MappedColumn)
    torch.testing.assert_close(found.mean, expected.mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.std, expected.std, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.gather(ids[:50]), expected.gather(ids[:50]))


def test_copies_among_partitions_are_found_in_a_file_too(tmp_path):
    data = pictures()
    data.x.values[2000:2003] = data.x.values[:3]
    partitions = {"train": torch.arange(2000), "test": torch.arange(2000, N)}
    found = [list(map(str, inspect_partitions(partitions, each))) for each in (data, on_disk(data, tmp_path))]
    assert found[0] == found[1]
    assert any("3 of its 1000 samples are exact copies" in issue for issue in found[1])


def test_a_large_column_is_made_in_a_file_and_stored_like_any_other(tmp_path):
    small, large = (empty_column((N, 5), torch.float32, in_memory=limit) for limit in (1 << 20, 100))
    assert (type(small), type(large)) == (TensorColumn, MappedColumn)
    values = torch.randn(N, 5)
    for column in (small, large):
        for part in range(0, N, 1000):
            column.values[part : part + 1000] = values[part : part + 1000]
            if isinstance(column, MappedColumn):
                column.release()  # what was written must survive it
        assert torch.equal(column.values, values)
    both = [to_artifact(replace(table(values), x=column)) for column in (small, large)]
    assert both[0][1] == both[1][1]
    assert torch.equal(both[0][0]["x.values"], both[1][0]["x.values"])


PEAK = """
import json, sys, torch
from pathlib import Path
from safetensors.torch import load_file
from erasure.data.on_disk import left_on_disk
from erasure.data.storage import from_artifact
from erasure.training.batches import Batches

def high_water_mib():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) / 1024

torch.set_num_threads(1)
file = Path(sys.argv[1])
data = from_artifact(load_file(file), json.loads(sys.argv[2]))
for cap_gib in json.loads(sys.argv[3]):  # the least memory first, as the mark only rises
    placed = left_on_disk(data, file, cap_gib)
    warm = torch.arange(len(placed))
    next(iter(Batches(placed.x, placed.y, warm[:64], 64, torch.Generator().manual_seed(0))))
    before = high_water_mib()
    for batch in Batches(placed.x, placed.y, warm, 64, torch.Generator().manual_seed(0)):
        assert batch.x.dtype == torch.float32
    print(high_water_mib() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_above_the_cap_an_epoch_needs_no_memory_for_the_column(tmp_path):
    n_rows, n_columns = 40_000, 784
    values = np.zeros((n_rows, n_columns), dtype=np.float32)
    values[:, 0] = np.arange(n_rows)
    tensors, facts = to_artifact(table(torch.from_numpy(values)))
    save_file(tensors, tmp_path / "columns.safetensors")

    command = [sys.executable, "-c", PEAK, tmp_path / "columns.safetensors", json.dumps(facts), "[0.1, null]"]
    said = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    left_there, taken_in = map(float, said.split())
    column_mib = values.nbytes / 2**20
    assert column_mib > 110
    assert taken_in > 0.8 * column_mib
    assert left_there < 0.4 * column_mib


def test_what_is_read_ahead_comes_in_order_and_an_error_in_its_place():
    assert list(ahead(iter(range(100)))) == list(range(100))
    assert list(ahead(iter(()))) == []

    def broken():
        yield from range(3)
        raise RuntimeError("the disk is gone")

    seen = []
    with pytest.raises(RuntimeError, match="the disk is gone"):
        for item in ahead(broken()):
            seen.append(item)  # noqa: PERF402 - what came before the error is wanted
    assert seen == [0, 1, 2]


def test_a_reader_that_is_left_early_ends():
    before = threading.active_count()
    items = ahead(iter(range(10**9)))
    assert [next(items), next(items)] == [0, 1]
    items.close()
    assert threading.active_count() == before
