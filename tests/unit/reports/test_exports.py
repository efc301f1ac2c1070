"""Exports: marks, escapes, and nothing hostile that stays alive."""

import csv
import io
import re
import shutil
import subprocess

import pyarrow.parquet as parquet
import pytest
from report_rows import method, references, row, with_jury

from erasure.analysis.gaps import RolePartitions
from erasure.analysis.result_table import result_table
from erasure.analysis.verdicts import Judged, judge_all
from erasure.records.evidence import SourceRecord
from erasure.reports.bibliography import bibtex
from erasure.reports.exports import csv_bytes, latex, latex_table, markdown, with_half, write_tables

HOSTILE = [
    '=HYPERLINK("http://evil","x")',
    "+1+cmd|' /C calc'!A0",
    "@SUM(1)",
    "-2+3",
    "\t=1",
    "  =1",
    "<script>alert(1)</script>",
    "a|b",
    "\\input{/etc/passwd}",
    "\\end{tabular}\\write18{id}",
    "100% & $x_1^2$ #~",
    "[x](javascript:alert(1))",
    "many\nlines",
]


def table_of(rows):
    return result_table(rows, judge_all(with_jury(rows), RolePartitions(), {}))


@pytest.fixture
def table():
    return table_of([*references(), *method("a", forget=0.901), *method("b", forget=0.905), *method("c_1", forget=0.93)])


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_of_a_csv_file_starts_a_formula(text):
    ((cell, value),) = list(csv.reader(io.StringIO(csv_bytes([{"name": text, "value": -1.5}]).decode(), newline="")))[1:]
    assert not cell.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert text in cell
    assert value == "-1.5"


def test_columns_are_those_of_all_records():
    assert csv_bytes([{"a": 1}, {"b": None, "a": True}]) == b"a,b\n1,\ntrue,\n"


def test_markdown_marks_best_second_and_ties(table):
    lines = {line.split(" | ")[0].strip("| "): line for line in markdown(table).splitlines() if line.startswith("|")}
    assert "**0.901** |" in lines["a"]
    assert "**0.905** = |" in lines["b"]
    assert "*0.930* ≠" in lines[r"c\_1"]
    assert "± 0.010" in lines["noise floor"]


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_stays_in_its_markdown_cell(text):
    lines = markdown(table_of(method(text))).splitlines()
    line = lines[2]
    assert len(re.findall(r"(?<!\\)\|", line)) == len(re.findall(r"(?<!\\)\|", lines[0]))
    assert not re.search(r"(?<!\\)[<\[]", line)


def test_latex_marks_best_second_and_ties(table):
    text = latex_table(table, "A caption_1.")
    assert r"\textbf{0.901} &" in text
    assert r"\textbf{0.905}$^{=}$ &" in text
    assert r"\underline{0.930}\,$\neq$" in text
    assert r"c\_1 &" in text
    assert r"A caption\_1." in text
    assert re.search(r"c\\_1 & under-forgotten &", text)
    assert text.index(r"\toprule") < text.index(r"\cmidrule(lr){3-5}") < text.index(r"\midrule") < text.index(r"\bottomrule")


def test_repetitions_have_their_interval_in_latex():
    rows = [row("a", value=v, low=0.85, high=0.95, n=2, seed_train=s) for s, v in enumerate((0.88, 0.92))]
    text = latex_table(table_of(rows))
    assert r"\textbf{0.900 $\pm$ 0.050}" in text
    assert "over 2 repetitions" in text


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_name_carries_nothing_out_in_latex(text):
    escaped = latex(text)
    allowed = {
        r"\textbackslash{}",
        r"\textasciicircum{}",
        r"\textasciitilde{}",
        r"\textless{}",
        r"\textgreater{}",
        r"\textbar{}",
        r"\textquotedbl{}",
    }
    rest = escaped
    for command in allowed:
        rest = rest.replace(command, "")
    assert not re.search(r"(?<!\\)[{}$&#%_^~]|\\[^{}$&#%_]", rest)


def test_every_line_has_as_many_cells_as_columns(table):
    body = latex_table(table).split(r"\midrule", 1)[1].split(r"\bottomrule")[0]
    lines = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert len(lines) == len(table.lines) + 1
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(table.columns) + 1}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_table_compiles_with_hostile_names(tmp_path):
    rows = [*references(), *(r for text in HOSTILE for r in method(text, forget=0.95))]
    (tmp_path / "t.tex").write_text(
        "\\documentclass{article}\\usepackage[T1]{fontenc}\\usepackage{booktabs,graphicx}\\begin{document}\n"
        + latex_table(table_of(rows), "\\input{nothing} 50 %")
        + "\\end{document}\n",
        encoding="utf-8",
    )
    command = ["pdflatex", "-draftmode", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


def test_a_wide_table_becomes_several_that_hold_every_column_once():
    rows = [*references(), *method("a", forget=0.901)]
    rows += [row("a", f"measure {i}", value=i / 10, gold=0.5) for i in range(12)]
    text = latex_table(table_of(rows), "Wide.")
    assert text.count(r"\begin{tabular}") == text.count(r"\begin{table}") == 3
    assert all(text.count(f"{{measure {i}}}") == 1 for i in range(12))
    assert text.count(r"\label{tab:results}") == 1
    assert r"\label{tab:results-3}" in text
    assert text.count(r"table~\ref{tab:results}") == 2


def test_half_an_interval_has_the_decimals_of_its_mean():
    assert with_half(517.2, 30.849) == "517.2 ± 30.8"
    assert with_half(0.957, None) == "0.957"
    assert with_half(0.5, 0.0) == "0.500 ± 0.000"


def test_powers_of_ten_are_set_as_such():
    rows = [*references(), *method("a"), row("a", "tiny", value=-2.4e-5, gold=None, partition="")]
    assert r"$-$2.4$\cdot 10^{-5}$" in latex_table(table_of(rows))


def test_tables_are_written_in_every_format(table, tmp_path):
    names = [path.name for path in write_tables(table, tmp_path / "new")]
    assert names == ["results.csv", "results.parquet", "results.md", "results.tex"]
    read = parquet.read_table(tmp_path / "new" / "results.parquet").to_pylist()
    assert read == table.records()
    with (tmp_path / "new" / "results.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(table.lines) * len(table.columns)


def bibtex_of(sources):
    return bibtex([SourceRecord(**source) for source in sources])


def test_a_paper_becomes_one_entry_with_everything_that_uses_it():
    paper = "Kurmanji, Triantafillou, NeurIPS 2023, arXiv:2302.09880"
    text = bibtex_of(
        [{"name": "SCRUB", "paper": paper}, {"name": "UMIA", "paper": f"{paper}; Choi & Na, 2023, arXiv:2311.02240"}]
    )
    assert text.count("@misc{") == 2
    assert "author = {Kurmanji and Triantafillou}" in text
    assert "author = {Choi and Na}" in text
    assert "eprint = {2302.09880}" in text
    assert "Used by SCRUB, UMIA" in text


def test_one_paper_cited_in_two_ways_is_one_entry_with_its_title():
    full = "Fan, Liu, Zhang, Wong, Wei, Liu, ICLR 2024, arXiv:2310.12508"
    text = bibtex_of(
        [{"name": "AverageGap", "paper": "Fan et al., ICLR 2024, arXiv:2310.12508 (SalUn)"}, {"name": "SalUn", "paper": full}]
    )
    assert text.count("@misc{") == 1
    assert "author = {Fan and Liu and Zhang and Wong and Wei and Liu}" in text
    assert "title = {{SalUn: Empowering" in text
    assert "howpublished = {ICLR 2024, arXiv:2310.12508}" in text


@pytest.mark.parametrize(
    ("paper", "authors"),
    [
        ("after Tarun et al., IEEE TNNLS 2023", "Tarun and others"),
        ("WoodFisher: Singh & Alistarh, NeurIPS 2020", "Singh and Alistarh"),
        ("intervals by Clopper & Pearson, 1934", "Clopper and Pearson"),
        ("Cohen, Educational and Psychological Measurement 20 (1960) for kappa", "Cohen"),
        ("Milani Fard, Cormier, NeurIPS 2016 (churn)", "Milani Fard and Cormier"),
    ],
)
def test_authors_end_where_the_venue_begins(paper, authors):
    assert f"author = {{{authors}}}" in bibtex_of([{"name": "A", "paper": paper}])


def test_keys_are_unique_and_a_given_entry_is_kept():
    papers = [{"name": "A", "paper": "Foster et al., AAAI 2024"}, {"name": "B", "paper": "Foster et al., ICLR 2024"}]
    text = bibtex_of([*papers, {"name": "C", "paper": "ignored 2020", "bibtex": "@article{mine, title={Mine}}"}])
    keys = re.findall(r"@\w+\{([^,]+),", text)
    assert sorted(keys) == ["foster2024", "foster2024a", "mine"]
    assert "Foster and others" in text


def test_bookkeeping_without_a_paper_has_no_entry():
    assert bibtex_of([{"name": "RunTime", "paper": "Bookkeeping"}]) == ""


def test_papers_without_an_arxiv_number_have_their_titles():
    text = bibtex_of([{"name": "GoldModel", "paper": "Exact unlearning by retraining; Cao & Yang, IEEE S&P 2015"}])
    assert "Towards Making Systems Forget with Machine Unlearning" in text
    assert "title" not in bibtex_of([{"name": "X", "paper": "Cao & Yang, IEEE S&P 2016"}])


def test_operations_are_written_as_a_power_of_ten():
    flops = [row("gold", "Flops", "", 1.16e9, unit="FLOP"), row("a", "Flops", "", 2.4e8, unit="FLOP")]
    assert r"2.40$\cdot 10^{8}$" in latex_table(result_table(flops, Judged()))
