"""Pictures decoded by several threads: in their order, into a file where they are many, and the first wrong one is named."""

import threading

import numpy as np
import pytest
import torch

pytest.importorskip("PIL")
from PIL import Image

from erasure.data import on_disk
from erasure.data.progress import report, reporting_to
from erasure.data.reading import images
from erasure.data.reading.images import recipe, stacked
from erasure.errors import DataError
from erasure.training.batches import TensorColumn
from erasure.training.mapped import MappedColumn

N = 1300
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 4, 3, 3), dtype=np.uint8)


def read(position):
    return Image.fromarray(PIXELS[position])


def named(position):
    return f"picture {position}"


def test_every_picture_is_at_its_place_and_threads_share_the_work():
    threads = set()
    both = threading.Barrier(2, timeout=30)

    def noted(position):
        if position in {1, 2}:
            both.wait()  # only two threads at a time get past this
        threads.add(threading.get_ident())
        return read(position)

    column = stacked(N, noted, recipe(()), named)
    assert type(column) is TensorColumn
    assert torch.equal(column.values, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert len(threads) >= 2


def test_many_pictures_are_decoded_into_a_file(monkeypatch):
    monkeypatch.setattr(images, "empty_column", lambda shape, dtype: on_disk.empty_column(shape, dtype, in_memory=1000))
    column = recipe(("Normalize(mean=0.5, std=0.5)",)).column(stacked(N, read, recipe(()), named))
    assert isinstance(column, MappedColumn)
    assert torch.equal(column.values, torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    ids = torch.tensor([5, 1299, 0])
    expected = (torch.from_numpy(PIXELS)[ids].permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
    torch.testing.assert_close(column.gather(ids), expected)


@pytest.mark.parametrize("wrong", [(700, 900), (0, 5), (3, 4)])
def test_of_several_wrong_pictures_the_first_is_named(wrong):
    def damaged(position):
        if position in wrong:
            raise OSError("image file is truncated")
        return read(position)

    with pytest.raises(DataError, match=f"^picture {wrong[0]} cannot be decoded as a picture: image file is truncated$"):
        stacked(N, damaged, recipe(()), named)


def test_whoever_listens_hears_how_far_it_is():
    heard = []
    with reporting_to(lambda done, total: heard.append((done, total))):
        stacked(N, read, recipe(()), named)
    assert heard[-1] == (N, N)
    assert heard == sorted(heard)
    assert len(heard) > 1
    report(1, 2)  # nobody listens any more
    assert heard[-1] == (N, N)


def test_no_picture_at_all_is_refused():
    with pytest.raises(DataError, match="there is no picture"):
        stacked(0, read, recipe(()), named)
