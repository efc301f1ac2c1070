"""Stages of pieces that are made one by one, such as the models of a block, on all cores: where it is worth it others join in.

Who makes a piece does not show in it: each has seeds of its own, and every process computes with as many threads as the run has.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from torch import Tensor

from erasure.stages.session import Session
from erasure.store.writer import write_tensors

__all__ = ["Pieces", "made_side_by_side", "make_what_is_left"]


class Pieces(Protocol):
    """A stage of pieces, each made by itself."""

    @property
    def address(self) -> str:
        """Its address, by which other processes know it."""
        ...

    @property
    def n_pieces(self) -> int:
        """How many there are."""
        ...

    def piece(self, session: Session, number: int) -> dict[str, Tensor]:
        """Make one of them, now and in this process."""
        ...


def made_side_by_side(session: Session, stage: Pieces, piece_s: float = 0.0) -> Iterator[dict[str, Tensor]]:
    """Pieces in their order, one at a time.

    A piece that another process could not make, for whatever reason, is made here.

    Args:
        session: Has the other processes.
        stage: Makes the pieces.
        piece_s: Seconds that one takes, as far as that is known; the last one tells.

    Raises:
        What the stage raises.
    """
    n_made, n, others = 0, stage.n_pieces, session.others
    while n_made < n and not (others is not None and n - n_made > 1 and others.are_worth((n - n_made) * piece_s)):
        start = time.perf_counter()
        made = stage.piece(session, n_made)
        n_made, piece_s = n_made + 1, time.perf_counter() - start
        yield made
    if n_made == n or others is None:
        return
    with session.store.private_directory() as folder:
        for number in range(n_made):
            _taken(folder, number).touch()
        with others.invited(stage.address, folder):
            make_what_is_left(session, stage, folder)
        for number in range(n_made, n):
            yield _collected(session, stage, number, _file(folder, number))


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number}.safetensors"


def _taken(folder: Path, number: int) -> Path:
    return folder / f"{number}.taken"


def _collected(session: Session, stage: Pieces, number: int, file: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    if not file.exists():
        return stage.piece(session, number)
    made = load_file(file)
    file.unlink()
    return made


def make_what_is_left(session: Session, stage: Pieces, folder: Path) -> None:
    """Make piece after piece that nobody else has taken, and leave them in the folder.

    Raises:
        StoreError: If the disk refuses a piece.
    """
    for number in range(stage.n_pieces):
        try:
            os.close(os.open(_taken(folder, number), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            continue
        write_tensors(folder / f"{number}.part", stage.piece(session, number))
        (folder / f"{number}.part").rename(_file(folder, number))
