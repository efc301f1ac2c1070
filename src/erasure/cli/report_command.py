"""``erasure report``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from erasure.cli.show_command import _check_is_run as check_is_run

if TYPE_CHECKING:
    from erasure.analysis.overview import Overview
    from erasure.records.run_folder import RunFolder

__all__ = ["command"]

_FORMATS = ("svg", "png", "pdf")


@click.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="The page. [default: RUN/report.html]")
@click.option(
    "--figures", type=click.Path(path_type=Path), help="Also write every figure, and its data as CSV, to this directory."
)
@click.option("--formats", default="svg,png,pdf", show_default=True, help="Formats of the figures.")
@click.option(
    "--tables",
    type=click.Path(path_type=Path),
    help="Also write the table of results to this directory, as CSV, Parquet, Markdown and LaTeX, with the papers as BibTeX.",
)
@click.option(
    "--with-samples", is_flag=True, help="Show forgotten samples themselves, from the store. They may be personal data."
)
@click.option("--store", type=click.Path(path_type=Path), help="Where --with-samples finds the data. [default: .erasure/store]")
@click.option("--json", "as_json", is_flag=True, help="Print the verdicts and the paths of all files as JSON.")
def command(
    run: Path,
    output: Path | None,
    figures: Path | None,
    formats: str,
    tables: Path | None,
    with_samples: bool,
    store: Path | None,
    as_json: bool,
) -> int:
    """Make the report of the run in the directory RUN: one HTML file that needs no network.

    \b
    erasure report runs/proof_of_concept
    erasure report runs/proof_of_concept --figures figures --formats svg,pdf
    erasure report runs/proof_of_concept --tables tables
    """  # noqa: D301 - click's mark for lines that stay as they are
    kinds = _kinds(formats)
    check_is_run(run)
    _check_places(output or run / "report.html", figures, tables)
    from erasure.analysis.overview import overview_of
    from erasure.records.collection import uncollected
    from erasure.records.run_folder import RunFolder
    from erasure.reports.figures.of_run import figures_of
    from erasure.reports.page import write_page

    folder = RunFolder.load(run)
    with uncollected():
        overview = overview_of(folder)
    written: list[Path] = []
    if tables is not None:
        written += _tables(overview, tables)
    if figures is not None:
        from erasure.reports.figures.render import write_figures

        written += write_figures(figures_of(overview), figures, kinds)
    written.append(write_page(run, output, samples=_samples(folder, store) if with_samples else (), overview=overview))
    if as_json:
        verdicts = [
            {"label": j.label, "verdict": j.finding, "evidence": list(j.reasons), "cost": j.cost} for j in overview.verdicts
        ]
        found = {"recommendation": overview.recommendation, "verdicts": verdicts, "files": [str(path) for path in written]}
        click.echo(json.dumps(found, ensure_ascii=False))
    else:
        for path in written:
            click.echo(path)
    return 0


def _check_places(page: Path, figures: Path | None, tables: Path | None) -> None:
    """Before anything is computed, try whether all of it can be written."""
    from erasure.errors import StoreError
    from erasure.records.output_folder import check_writable

    if page.is_dir():
        raise StoreError(f"{page} is a directory; name the file of the page with --output, such as {page / 'report.html'}.")
    places = {"--output": page.parent, "--figures": figures, "--tables": tables}
    for option, place in places.items():
        if place is not None:
            check_writable(place, option=option)


def _tables(overview: Overview, directory: Path) -> list[Path]:
    from erasure.durable import write_atomically
    from erasure.reports.bibliography import bibtex
    from erasure.reports.exports import write_tables

    parts = [(name, part.table) for name, part in overview.parts]
    written = write_tables(overview.table, directory, caption=f"{overview.folder.name}.", parts=parts)
    bibliography = directory / "references.bib"
    write_atomically(bibliography, bibtex(overview.folder.record.sources).encode())
    return [*written, bibliography]


def _samples(folder: RunFolder, store: Path | None) -> list[dict[str, Any]]:
    from erasure.reports.samples import samples_of
    from erasure.store import Store, default_store_path

    return samples_of(folder, Store(store or default_store_path()))


def _kinds(formats: str) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(part.strip().lower() for part in formats.split(",") if part.strip()))
    unknown = [kind for kind in kinds if kind not in _FORMATS]
    if unknown or not kinds:
        raise click.BadParameter(
            f'"{unknown[0] if unknown else formats}" is no format; there are {", ".join(_FORMATS)}', param_hint="--formats"
        )
    return kinds
