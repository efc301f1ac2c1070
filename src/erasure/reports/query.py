"""Results of many runs at once: as rows, as data frames, and as a table for SQL."""

from __future__ import annotations

import glob
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erasure.errors import ConfigError, Diagnostic, MissingDependency, StoreError, nearest
from erasure.records.parquet import read_parquet
from erasure.records.rows import FORMER_COLUMNS, RESULT_FIELDS, Row
from erasure.reports.results import Results

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa

__all__ = ["Runs", "load_results", "run_directories"]

_ROWS = "rows.parquet"
_UNSOUND = frozenset({"failed", "non-finite"})
_CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}
"""Settings with which a query sees the rows and nothing else: no file, no network, no variable of this process."""


@dataclass(frozen=True, eq=False)
class Runs:
    """Rows of several runs, each with the name of its run.

    Args:
        table: The rows as an Arrow table: a column ``run``, then those of :data:`erasure.store.RESULT_FIELDS`. Columns that a run of
            another version does not have are null.
    """

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The rows without the names of their runs."""
        return tuple(Row.of(record) for record in self.table.select(list(RESULT_FIELDS)).to_pylist())

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the runs, in their order."""
        return tuple(dict.fromkeys(self.table.column("run").to_pylist()))

    @property
    def is_sound(self) -> bool:
        """Whether every row has its value."""
        return not _UNSOUND & set(self.table.column("status").to_pylist())

    def of(self, run: str) -> Results:
        """The results of one run.

        Raises:
            KeyError: If there is no such run.
        """
        if run not in self._by_run:
            raise KeyError(f"no run {run!r}; there are {', '.join(self.names)}")
        return Results.of(self._by_run[run])

    @cached_property
    def _by_run(self) -> dict[str, list[Row]]:
        found: dict[str, list[Row]] = {}
        for name, row in zip(self.table.column("run").to_pylist(), self.rows, strict=True):
            found.setdefault(name, []).append(row)
        return found

    def _repr_html_(self) -> str:
        """What each run holds, in a notebook."""
        from erasure.reports.notebook import runs_html

        return runs_html(self._by_run.items())

    def to_pandas(self) -> pd.DataFrame:
        """One line a row; the column ``run`` comes first."""
        import pandas as pd

        return pd.DataFrame(self.table.to_pylist(), columns=self.table.column_names)

    def to_polars(self) -> pl.DataFrame:
        """One line a row; the column ``run`` comes first.

        Raises:
            MissingDependency: If polars is not installed.
        """
        try:
            import polars
        except ImportError as error:
            raise MissingDependency("polars", "query", "A polars frame") from error
        frame = polars.from_arrow(self.table)
        assert isinstance(frame, polars.DataFrame)  # noqa: S101 - a table gives a frame
        return frame

    def query(self, sql: str) -> pa.Table:
        """What a SELECT says about the table ``rows``; DuckDB's dialect. It can read nothing else and change nothing.

        Raises:
            ConfigError: If the query is not one SELECT, or is wrong; says where.
            MissingDependency: If DuckDB is not installed.
        """
        try:
            import duckdb
        except ImportError as error:
            raise MissingDependency("duckdb", "query", "A query") from error
        with duckdb.connect(":memory:", config=_CLOSED) as connection:
            connection.register("rows", self.table)
            connection.execute("SET lock_configuration = true")
            try:
                statements = connection.extract_statements(sql)
                kinds = [statement.type.name for statement in statements]
                if kinds != ["SELECT"]:
                    raise _wrong(f"expected one SELECT, found {', '.join(kinds) or 'nothing'}", "")
                return self._answer(connection, sql)
            except duckdb.Error as error:
                raise _wrong(str(error).strip(), self._hint(error)) from error

    def _answer(self, connection: Any, sql: str) -> Any:
        import duckdb

        try:
            return connection.sql(sql).to_arrow_table()
        except duckdb.BinderException as error:
            old = [name for name in FORMER_COLUMNS if f'"{name}"' in str(error)]
            if not old:
                raise
        table = self.table
        for name in FORMER_COLUMNS:
            table = table.append_column(name, table.column(FORMER_COLUMNS[name]))
        connection.unregister("rows")
        connection.register("rows", table)
        answer = connection.sql(sql).to_arrow_table()
        for name in old:
            text = f'the column "{name}" is now "{FORMER_COLUMNS[name]}"; the old name goes with the next version'
            warnings.warn(text, FutureWarning, stacklevel=3)
        return answer

    def _hint(self, error: Exception) -> str:
        if "Referenced column" in str(error) or "Referenced table" in str(error):
            return f"the columns of rows are {', '.join(self.table.column_names)}"
        return ""

    def __repr__(self) -> str:
        return f"<{len(self.names)} run{'' if len(self.names) == 1 else 's'}, {len(self)} rows>"


def load_results(pattern: str | Path | Iterable[str | Path] = "runs/**") -> Runs:
    """The rows of all runs that a pattern names.

    Args:
        pattern: A run's directory, a directory of runs, or a pattern such as ``runs/**`` or ``runs/adult-*``; or several.

    Returns:
        The rows, by run; a run is called as its directory.

    Raises:
        ConfigError: If there are no results.
        StoreError: If a file of rows is damaged.
    """
    import pyarrow

    patterns = [pattern] if isinstance(pattern, str | Path) else list(pattern)
    directories = dict.fromkeys(directory for one in patterns for directory in run_directories(one))
    try:
        table = pyarrow.concat_tables([_table(directory) for directory in directories], promote_options="permissive")
    except pyarrow.ArrowException as error:
        reason = str(error).splitlines()[0]
        raise StoreError(f"The tables of these runs hold different types in one column: {reason}; name some of them.") from error
    for name in RESULT_FIELDS:
        if name not in table.column_names:  # all runs are of another version
            table = table.append_column(name, pyarrow.nulls(table.num_rows))
    return Runs(table)


def run_directories(pattern: str | Path) -> list[Path]:
    """Directories with results that a pattern names, sorted.

    Raises:
        ConfigError: If there are none.
    """
    text = str(pattern)
    if (Path(text) / _ROWS).is_file():
        return [Path(text)]
    wanted = f"{text}/**" if Path(text).is_dir() else text
    # Hidden directories are left out, as a shell leaves them out.
    found = sorted({Path(path) for path in glob.glob(wanted, recursive=True) if (Path(path) / _ROWS).is_file()})  # noqa: PTH207
    if not found:
        beside = [str(path.parent) for path in Path("runs").glob(f"*/{_ROWS}")]
        hint = nearest(text, beside) or ("erasure run CONFIG makes some" if not beside else f"there are {', '.join(beside[:5])}")
        raise ConfigError(
            [Diagnostic(f'there are no results in "{text}": no directory there has a file {_ROWS}', hint=hint, kind="data")]
        )
    return found


def _table(directory: Path) -> pa.Table:
    import pyarrow

    path = directory / _ROWS
    try:
        table = read_parquet(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise StoreError(f"{path} cannot be read ({error}); run the experiment again, or leave it out.") from error
    table = table.rename_columns([FORMER_COLUMNS.get(name, name) for name in table.column_names])
    missing = [name for name in ("measure", "model_role", "status", "value") if name not in table.column_names]
    if missing or "run" in table.column_names:
        raise StoreError(f"{path} is not a table of results: it has the columns {', '.join(table.column_names)}.")
    names: Any = pyarrow.array([directory.as_posix()] * table.num_rows, pyarrow.string())
    return table.add_column(0, "run", names)


def _wrong(message: str, hint: str) -> ConfigError:
    return ConfigError([Diagnostic(f"the query cannot be answered: {message}", hint=hint, kind="data")])
