"""``erasure tune``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from erasure.cli.options import configuration_options, experiment_from, options_from, run_options
from erasure.cli.prose import printable
from erasure.cli.run_command import directory_name

if TYPE_CHECKING:
    from erasure.workflows.trials import Trial
    from erasure.workflows.tuning import Tuned

__all__ = ["command"]


@click.command("tune")
@configuration_options
@run_options
@click.option("--method", required=True, help="Label or name of one of the configuration's unlearners.")
@click.option(
    "--trials",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="Settings to try; give every method the same number.",
)
@click.option(
    "--protocol",
    type=click.Choice(["gold", "gold-free", "transfer"]),
    default="gold",
    show_default=True,
    help="Minimise the gap to gold (gold), or the difference of losses on forgotten and unseen samples (gold-free); "
    "or tune as gold on one seed and report on others (transfer).",
)
@click.option(
    "--tuning-seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Seeds per trial; none of them is reported."
)
@click.option(
    "--time-limit",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Start no new trial after this long; rerun the command to resume.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Folder of the study. [default: runs/NAME_tune_METHOD]")
@click.option("--quiet", is_flag=True, help="Hide the line for each trial; still print the result.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    config: Path,
    overrides: tuple[str, ...],
    trust: tuple[str, ...],
    method: str,
    trials: int,
    protocol: Literal["gold", "gold-free", "transfer"],
    tuning_seeds: int,
    time_limit: float | None,
    output: Path | None,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Tune the parameters of a method of CONFIG, on other seeds than those reported.

    The winner is confirmed on the reported seeds, which no trial has seen: as many as there are tuning seeds unless --seeds says otherwise,
    with the configuration's number of further golds.

    The folder gets the study (study.db), every trial (trials.csv, trials.json), the best setting as an entry of "unlearners" (best.jsonc)
    and the run that compares it with the defaults (report). Rerun the command to resume.

    \b
    erasure tune configs/proof_of_concept.jsonc --method SCRUB --trials 30 --seeds 0-2
    erasure tune configs/proof_of_concept.jsonc --method SSD --protocol gold-free
    """  # noqa: D301 - click's mark for lines that stay as they are
    from erasure.workflows.tuning import tune

    experiment = experiment_from(config, overrides, trust)
    where = output or Path("runs") / directory_name(f"{experiment.name}_tune_{method}")

    def said(trial: Trial) -> None:
        if not quiet:
            result = trial.reason if trial.objective is None else f"{trial.objective:.5f}"
            click.echo(
                printable(f"trial {trial.number + 1}/{trials}: {trial.state} {result} {_setting(trial.parameters)}"), err=True
            )

    found = tune(
        config,
        method,
        output=where,
        trials=trials,
        protocol=protocol,
        n_seeds=tuning_seeds,
        time_limit_s=time_limit,
        overrides=overrides,
        trust=trust,
        options=options_from(**options),
        on_trial=said,
    )
    if as_json:
        click.echo((where / "tuning.json").read_text("utf-8"))
    else:
        _show(found)
        click.echo(f"results in {where}")
    return 0 if found.report.is_sound else 1


def _show(found: Tuned) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from erasure.analysis.findings import Finding
    from erasure.analysis.verdict_words import p_text
    from erasure.analysis.verdicts import TITLES

    best = sorted((t for t in found.trials if t.objective is not None), key=lambda t: t.objective or 0.0)[:10]
    table = Table("trial", "objective", "setting", title=f"Best of {len(found.trials)} trials", title_justify="left")
    for trial in best:
        table.add_row(str(trial.number + 1), f"{trial.objective:.5f}", Text(printable(_setting(trial.parameters))))
    Console().print(table)
    for kind, gap in found.gaps.items():
        click.echo(f"{kind:<10}  {'failed' if gap is None else f'{gap:.5f}'}")
    if found.floor is not None:
        click.echo(f"{'floor':<10}  {found.floor:.5f}  models retrained with other seeds")
    for label, (finding, p) in found.tested.items():
        title = TITLES[Finding(finding)]
        click.echo(printable(f"{label}: {title}{'' if p is None else f' (p = {p_text(p)})'} on the reported seeds"))
    if found.improvement is not None:
        before = "the published defaults" if "default" in found.gaps else "the configured one"
        size = f"{100 * abs(found.improvement):.0f} % {'smaller' if found.improvement >= 0 else 'larger'}"
        click.echo(f"on the reported seeds, the tuned setting's objective is {size} than that of {before}")
    click.echo(f"cost: {found.tuning_s:.1f} s of unlearning and {found.gold_s:.1f} s of retraining; {found.total_s:.1f} s in all")
    click.echo(printable(f'"unlearners" entry: {json.dumps(found.snippet, ensure_ascii=False)}'))
    for note in found.notes:
        click.echo(printable(f"note: {note}"))


def _setting(parameters: Any) -> str:
    return ", ".join(
        f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in parameters.items()
    )
