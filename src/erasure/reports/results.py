"""The results of a run, as a person or a program wants them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from erasure.records.rows import RESULT_FIELDS, Row, read_rows
from erasure.reports.table import markdown_table, text_table

if TYPE_CHECKING:
    import pandas as pd

    from erasure.analysis.overview import Overview
    from erasure.analysis.verdicts import Verdict
    from erasure.records.run_folder import RunFolder

__all__ = ["Results"]

_UNSOUND = frozenset({"failed", "non-finite"})


@dataclass(frozen=True, eq=False)
class Results:
    """Rows of a run.

    Args:
        rows: One for each value.
        failures: Stage to reason, for stages that failed or could not run.
        output: Directory of the result files, if they were written.
        trace: Epoch and row of what was measured during unlearning; epoch 0 is the original.
        jury: Rows of further golds, beside which methods are judged; the files have them after the others.
        said: Text and level of what was said of the data and the results, which a repetition would say too.

    Example:
        >>> Results(rows=()).is_sound
        True
    """

    rows: tuple[Row, ...]
    failures: Mapping[str, str] = field(default_factory=dict)
    output: Path | None = None
    trace: tuple[tuple[int, Row], ...] = ()
    jury: tuple[Row, ...] = ()
    said: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def _repr_html_(self) -> str:
        """What to do, the table and figures, in a notebook."""
        from erasure.reports.notebook import results_html

        return results_html(self._folder())

    def overview(self) -> Overview:
        """The verdicts and what to do, as the report says them; from the rows alone where no result files were written."""
        from erasure.analysis.overview import overview_of

        return overview_of(self._folder())

    @property
    def verdicts(self) -> Mapping[str, Verdict]:
        """The verdict on each method by its label, what comes nearest to retraining first: ``finding``, ``reasons``, ``cost``."""
        return {verdict.label: verdict for verdict in self.overview().verdicts}

    @property
    def recommendation(self) -> str:
        """What to do, in the words of the report."""
        return self.overview().recommendation

    def _folder(self) -> RunFolder:
        from erasure.records.run_folder import RUN_RECORD_FILE, RunFolder
        from erasure.records.sweep_folder import POINTS_FILE

        output = self.output
        kept = output is not None and any((output / name).is_file() for name in (RUN_RECORD_FILE, POINTS_FILE))
        return RunFolder.load(output) if kept and output is not None else RunFolder(self.rows, jury=self.jury)

    @property
    def is_sound(self) -> bool:
        """Whether every row has its value and no stage failed."""
        return not self.failures and not any(row.status in _UNSOUND for row in self.rows)

    def value(self, measure: str, partition: str = "", label: str = "gold") -> float:
        """Mean over the repetitions of one measure of one model.

        Args:
            measure: Name of the measure.
            partition: Its partition.
            label: ``original``, ``gold`` or the unlearner's label.

        Raises:
            KeyError: If there is no such row.
        """
        found = [
            row.value
            for row in self.rows
            if row.measure == measure and row.partition == partition and row.label == label and row.value is not None
        ]
        if not found:
            raise KeyError(f"no value of {measure} on {partition!r} for {label!r}")
        return sum(found) / len(found)

    def to_pandas(self) -> pd.DataFrame:
        """One line a row, the columns in the order of the result files."""
        import pandas as pd

        return pd.DataFrame([row.record() for row in self.rows], columns=list(RESULT_FIELDS))

    def to_markdown(self) -> str:
        """The summary table in Markdown."""
        return markdown_table(self.rows, self.overview().judged)

    @classmethod
    def load(cls, directory: Path | str) -> Results:
        """Results that an earlier run wrote.

        Raises:
            StoreError: If there are none, or they cannot be read.
        """
        return cls.of(read_rows(Path(directory)), Path(directory))

    @classmethod
    def of(cls, rows: Iterable[Row], output: Path | None = None) -> Results:
        """Results from rows as the files have them, those of further golds among them.

        Args:
            rows: The rows.
            output: Directory of the files.
        """
        found = tuple(rows)
        shown, jury = (tuple(row for row in found if row.is_juror == wanted) for wanted in (False, True))
        return cls(rows=shown, output=output, jury=jury)

    def __repr__(self) -> str:
        return text_table(self.rows, self.overview().judged)

    def _repr_markdown_(self) -> str:
        return self.to_markdown()
