"""``erasure report``."""

from __future__ import annotations

from pathlib import Path

import click

from erasure.cli.show_command import _check_is_run as check_is_run

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
def command(
    run: Path,
    output: Path | None,
    figures: Path | None,
    formats: str,
    tables: Path | None,
    with_samples: bool,
    store: Path | None,
) -> int:
    """Make the report of the run in the directory RUN: one HTML file that needs no network.

    \b
    erasure report runs/proof_of_concept
    erasure report runs/proof_of_concept --figures figures --formats svg,pdf
    erasure report runs/proof_of_concept --tables tables
    """  # noqa: D301 - click's mark for lines that stay as they are
    kinds = _kinds(formats)
    check_is_run(run)
    from erasure.reports.folder import RunFolder
    from erasure.reports.overview import figures_of, overview_of
    from erasure.reports.page import write_page

    folder = RunFolder.load(run)
    samples = []
    if with_samples:
        from erasure.reports.samples import samples_of
        from erasure.store import Store, default_store_path

        samples = samples_of(folder, Store(store or default_store_path()))
    if tables is not None:
        from erasure.reports.bibliography import bibtex
        from erasure.reports.exports import write_tables
        from erasure.store import write_atomically

        overview = overview_of(folder)
        for path in write_tables(overview.table, tables, caption=f"{overview.folder.name}."):
            click.echo(path)
        write_atomically(tables / "references.bib", bibtex(folder.evidence.get("sources", ())).encode())
        click.echo(tables / "references.bib")
    if figures is not None:
        from erasure.reports.render import write_figures

        for path in write_figures(figures_of(overview_of(folder)), figures, kinds):
            click.echo(path)
    click.echo(write_page(run, output, samples=samples))
    return 0


def _kinds(formats: str) -> tuple[str, ...]:
    kinds = tuple(dict.fromkeys(part.strip().lower() for part in formats.split(",") if part.strip()))
    unknown = [kind for kind in kinds if kind not in _FORMATS]
    if unknown or not kinds:
        raise click.BadParameter(
            f'"{unknown[0] if unknown else formats}" is no format; there are {", ".join(_FORMATS)}', param_hint="--formats"
        )
    return kinds
