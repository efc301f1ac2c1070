"""Columns of a table in memory, or in a temporary file once they are too large for it."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from erasure.errors import DataError

__all__ = ["CHUNK_ROWS", "Spool", "SpooledColumns"]

CHUNK_ROWS = 1 << 14
"""Rows that are looked at at a time."""

_IN_MEMORY = 64 << 20
"""Bytes of a table that are kept in memory; a larger one goes to a file."""


class SpooledColumns(Mapping[str, Any]):
    """Columns in an arrow file, each read when it is asked for.

    Args:
        file: The file, of record batches of one schema; its folder goes when the columns do.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        weakref.finalize(self, shutil.rmtree, file.parent, ignore_errors=True)
        with self._reader() as reader:
            self._names: list[str] = reader.schema.names

    def __getitem__(self, name: str) -> Any:
        import pyarrow as pa

        if name not in self._names:
            raise KeyError(name)
        return pa.concat_arrays([column for _, (column,) in self.parts([name])])

    def __contains__(self, name: object) -> bool:
        return name in self._names  # without reading the column

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def parts(self, names: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
        """Number of the first row and some columns, batch after batch."""
        import pyarrow as pa

        start = 0
        with self._reader([self._names.index(name) for name in names]) as reader:
            for number in range(reader.num_record_batches):
                batch = reader.get_batch(number)
                yield start, [batch.column(name) for name in names]
                start += batch.num_rows
                pa.default_memory_pool().release_unused()  # it keeps what is free for later, and more with every batch

    def _reader(self, fields: Sequence[int] = ()) -> Any:
        import pyarrow as pa

        # Mapped: of a batch only the columns that are asked for are read, and the system takes the pages back when it needs room.
        options = pa.ipc.IpcReadOptions(included_fields=list(fields) or None, use_threads=False)
        return pa.ipc.open_file(pa.memory_map(str(self._file)), options=options)


class Spool:
    """Takes the batches of a table one after the other, and keeps them in memory as long as they are few.

    Used as a context: the file of a spool whose columns nobody asked for goes with it.
    """

    def __init__(self) -> None:
        self._batches: list[Any] = []
        self._n_bytes = 0
        self._file: Path | None = None
        self._writer: Any = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:  # nobody has asked for the columns
            self._writer.close()
            shutil.rmtree(self._file.parent, ignore_errors=True)

    def append(self, batch: Any) -> None:
        """Take the next rows.

        Raises:
            DataError: If there is no room for the file.
        """
        self._n_bytes += batch.nbytes
        if self._writer is None and self._n_bytes <= _IN_MEMORY:
            self._batches.append(batch)
            return
        try:
            if self._writer is None:
                self._begin(batch.schema)
            self._writer.write_batch(batch)
        except OSError as error:
            room = f"no room for a table of more than {self._n_bytes >> 20} MiB: {error.strerror or error}"
            raise DataError(f"{room}; set TMPDIR to a disk that has it") from error

    def columns(self) -> Mapping[str, Any]:
        """The columns by name; nothing can be appended any more."""
        import pyarrow as pa

        if self._writer is None:
            table = pa.Table.from_batches(self._batches)
            return {name: table.column(name).combine_chunks() for name in table.column_names}
        self._writer.close()
        assert self._file is not None  # noqa: S101 - it was made with the writer
        file, self._file = self._file, None
        return SpooledColumns(file)

    def _begin(self, schema: Any) -> None:
        import pyarrow as pa

        self._file = Path(tempfile.mkdtemp(prefix="erasure-table-")) / "table.arrow"
        self._writer = pa.ipc.new_file(str(self._file), schema)
        for batch in self._batches:
            self._writer.write_batch(batch)
        self._batches.clear()
