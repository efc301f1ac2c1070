"""``erasure request``."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from erasure.cli.prose import printable

if TYPE_CHECKING:
    from erasure.workflows.deletion import Answer
    from erasure.workflows.deletion_plan import DeletionPlan

__all__ = ["command"]

_PATH = click.Path(exists=True, path_type=Path)


@click.command("request")
@click.argument("training", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--model",
    required=True,
    type=_PATH,
    help="The trained model: a file of weights or its folder, a Hugging Face folder, or that of an estimator.",
)
@click.option("--ids", default="", help="Ids to forget, separated by commas; ids() of TRAINING gives each sample's id.")
@click.option(
    "--ids-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with one id per line (UTF-8); an id that contains a comma is quoted as in CSV.",
)
@click.option(
    "--where", multiple=True, metavar="COLUMN=VALUE", help="All samples with this value; columns() of TRAINING gives the columns."
)
@click.option("--positions", default="", help="Positions in the training set, separated by commas, from 0.")
@click.option(
    "--method", "methods", multiple=True, metavar="NAME", help="A method to try. Repeatable. [default: a few cheap ones]"
)
@click.option("--retrain", is_flag=True, help="Retrain at once without trying a method.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("requests"),
    show_default=True,
    help="Folder of all requests.",
)
@click.option("--key", type=_PATH, help="Private key to sign with (erasure keys new). [default: one in the folder]")
@click.option("--contact", default="", metavar="TEXT", help="Whom the person who asked may turn to; their page shows it.")
@click.option("--max-seconds", type=click.FloatRange(min=0), help="Try only methods that fit into this time.")
@click.option(
    "--max-money", type=click.FloatRange(min=0), help="Try only methods that fit into this budget, at --price-per-hour."
)
@click.option("--price-per-hour", type=click.FloatRange(min=0), default=0.0, help="Price of an hour of computing.")
@click.option(
    "--max-loss",
    type=click.FloatRange(min=0, max=1),
    default=0.02,
    show_default=True,
    help="Largest acceptable loss of test accuracy.",
)
@click.option(
    "--originals", type=click.IntRange(min=3), default=5, show_default=True, help="Models on which the best method is confirmed."
)
@click.option(
    "--golds", type=click.IntRange(min=1), default=4, show_default=True, help="Retrained models to compare each of them with."
)
@click.option(
    "--attempts",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Methods to confirm in turn until one holds; the more, the stricter each is judged.",
)
@click.option("--no-fallback", is_flag=True, help="Do not retrain even if no method is good enough.")
@click.option("--no-data-check", is_flag=True, help="Forget samples even if the model seems never to have seen them.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Root of all random choices.")
@click.option("--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Samples per step.")
@click.option("--version", default="", help="Version of whatever fit() depends on beyond its own code.")
@click.option("--store", type=click.Path(file_okay=False, path_type=Path), help="Where trained models are kept.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--dry-run", is_flag=True, help="Show the plan and its price without answering.")
@click.option(
    "--prepare", is_flag=True, help="Train the models that methods are judged beside before anybody asks, and answer nothing."
)
@click.option("--quiet", is_flag=True, help="Hide progress.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer, or the plan of a dry run, as JSON.")
def command(
    training: Path,
    model: Path,
    ids: str,
    ids_file: Path | None,
    where: tuple[str, ...],
    positions: str,
    methods: tuple[str, ...],
    retrain: bool,
    max_loss: float,
    originals: int,
    golds: int,
    attempts: int,
    no_fallback: bool,
    no_data_check: bool,
    quiet: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Answer a deletion request: forget, show that it was done, record and certify it.

    TRAINING is a Python file with your training: data() gives the training set, fit(indices, seed) trains a model on some of it, model()
    the untrained network, test() samples that no model has seen, ids() the id of each training sample, columns() other columns by name.

    Rerun the command to resume after an interruption; it does nothing twice. The exit code is 0 if a certificate was
    issued, 1 if it was refused.

    \b
    erasure request training.py --model model.safetensors --ids 17,23 --dry-run
    erasure request training.py --model model.safetensors --where user=anna
    """  # noqa: D301 - click's mark for lines that stay as they are
    from erasure.cli.progress import Terminal
    from erasure.engine.saved_estimators import is_saved_estimator
    from erasure.errors import ConfigError, Diagnostic
    from erasure.workflows.deletion import METHODS, Answer, forget
    from erasure.workflows.training_file import TrainingFile, loaded_model, read_ids

    file = TrainingFile.load(training)
    data = file.call("data")
    asked = [*_listed(ids), *(read_ids(ids_file) if ids_file else [])]
    places = [_whole(each) for each in _listed(positions)]
    if not asked and not where and not places:
        raise ConfigError(
            [Diagnostic("nobody is asked to be forgotten", hint="name them with --ids, --ids-file, --where or --positions")]
        )
    chosen, who = file.chosen(_length(data), ids=asked, where=where, place=places)
    terminal = Terminal(quiet=quiet or as_json)
    with terminal:
        found = forget(
            model=loaded_model(model, file),
            forget=chosen,
            data=data,
            test=file.call("test"),
            train=file.functions.get("fit"),
            who=who,
            methods=() if retrain else methods or METHODS,
            max_utility_loss=max_loss,
            n_originals=originals,
            n_golds=golds,
            n_attempts=attempts,
            fallback=not no_fallback,
            check_data=not no_data_check,
            original=model if not is_saved_estimator(model) else None,
            dry_run=dry_run,
            listener=terminal.listen,
            **options,
        )
    if as_json:
        click.echo(json.dumps(_as_json(found), ensure_ascii=False, default=str))
        return 0 if not isinstance(found, Answer) or found.entry.certificate else 1
    for line in str(found).splitlines():
        click.echo(printable(line))
    if not isinstance(found, Answer):
        return 0
    click.echo(f"model {found.folder / 'model'}, page for the person who asked {found.folder / 'answer.html'}")
    return 0 if found.entry.certificate else 1


def _as_json(found: Answer | DeletionPlan) -> dict[str, Any]:
    """An answer with its line of the ledger, or a plan."""
    from erasure.workflows.deletion import Answer

    if isinstance(found, Answer):
        places = {"folder": found.folder, "model": found.folder / "model", "page": found.folder / "answer.html"}
        return {**places, "certificate": found.certificate, "entry": asdict(found.entry)}
    methods = [{"method": each.label, "seconds": each.seconds, "refusal": each.refusal} for each in found.candidates]
    facts = {
        field.name: getattr(found, field.name) for field in fields(found) if field.name not in {"models", "candidates", "steps"}
    }
    return {
        **facts,
        "steps": asdict(found.steps),
        "total_s": found.total_s,
        "methods": methods,
        "models": [asdict(each) for each in found.models],
    }


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise click.UsageError(f'"{text}" is no position: expected whole numbers from 0 on')
    return int(text)


def _length(data: Any) -> int:
    return len(data[1]) if isinstance(data, tuple) else len(data)
