"""What must exist once, and what must not decide: found in the source."""

import re
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src" / "erasure"
DECIDING = ("analysis", "reports", "ui", "records", "engine/recording")
BY_NAME = re.compile(r"(measure|label|name)\)?(\.casefold\(\))?\.(starts|ends)with\(|\"GoldModel\"")
ALLOWED = {
    "records/rows.py": "reads tables of versions that told kinds of numbers by names",
    "records/run_folder.py": "reads runs of versions that kept no models",
    "analysis/run_comparison.py": "names the retrained model in comparisons",
    "reports/bibliography.py": "names of authors",
    "ui/library.py": "names of folders",
}


def files_of(*folders):
    for folder in folders:
        for path in sorted((SOURCE / folder).rglob("*.py")):
            yield path.relative_to(SOURCE).as_posix(), path.read_text(encoding="utf-8")


def test_nothing_that_judges_or_draws_decides_by_the_name_of_a_measure_or_method():
    found = {path: said[0] for path, text in files_of(*DECIDING) if (said := BY_NAME.search(text))}
    assert found.keys() == ALLOWED.keys(), found


def test_kernels_and_aggregations_exist_once():
    once = {
        r"\bstdtrit\b|\bstdtr\b|scipy\.stats import .*\bt\b|\bt\.(ppf|sf|cdf)\(": {"intervals.py"},  # Student's distribution
        r"(logits|log_p)\w*\.argmax\((-1|1|dim=1)?\)": {"kernels.py"},  # predictions
        r"searchsorted\(.*members|searchsorted\(ordered": {"kernels.py"},  # AUC; rates at thresholds
        r"\(row\.seed_split, row\.seed_train\)|row\.seed_split, row\.seed_train$": {"records/originals.py"},  # repetitions
        r"lstrip\(\" \"\)\.startswith": {"records/csv_cells.py"},  # formulas in tables
    }
    files = list(files_of("."))
    for pattern, homes in once.items():
        found = {path for path, text in files if re.search(pattern, text, re.MULTILINE)}
        assert found == homes, pattern
