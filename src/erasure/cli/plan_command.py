"""``erasure plan``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from erasure.cli.options import configuration_options, experiment_from, options_from, run_options
from erasure.cli.prose import printable

__all__ = ["command"]


@click.command("plan")
@configuration_options
@run_options
@click.option("--json", "as_json", is_flag=True, help="Print the stages as JSON.")
def command(config: Path, overrides: tuple[str, ...], trust: tuple[str, ...], as_json: bool, **options: Any) -> int:
    """Show the stages of CONFIG, which of them are cached, and what the others will cost.

    Nothing is loaded or trained. Seconds are the median of earlier stages of the same kind in the store; "?" where there is none.

    \b
    erasure plan configs/proof_of_concept.jsonc
    erasure plan configs/proof_of_concept.jsonc --seeds 0-4 --json
    """  # noqa: D301 - click's mark for lines that stay as they are
    from erasure.experiment.estimate import estimates
    from erasure.experiment.run import make_plan
    from erasure.store import Store, default_store_path

    experiment = experiment_from(config, overrides, trust)
    run = options_from(**options)
    plan = make_plan(experiment, run)
    store = Store(run.store or default_store_path())
    past = estimates(store)
    records: list[dict[str, Any]] = [
        {
            "name": stage.name,
            "kind": stage.kind,
            "address": stage.address,
            "requires": list(stage.requires),
            "cached": store.contains(stage.address),
            "estimated_s": past.get(stage.signature),
        }
        for stage in plan.stages.values()
    ]
    missing = [record for record in records if not record["cached"]]
    known = sum(record["estimated_s"] or 0.0 for record in missing)
    unknown = sum(record["estimated_s"] is None for record in missing)
    if as_json:
        total = {"stages": len(records), "cached": len(records) - len(missing), "estimated_s": known, "without_estimate": unknown}
        click.echo(json.dumps({"stages": records, "total": total}))
        return 0
    width = max(len(record["name"]) for record in records)
    for record in records:
        seconds = "cached" if record["cached"] else "?" if record["estimated_s"] is None else f"{record['estimated_s']:.2f} s"
        click.echo(printable(f"{record['name']:{width}}  {seconds:>9}  {record['address'][:12]}"))
    at_least = "at least " if unknown else ""
    rest = f", {unknown} of them never run before" if unknown else ""
    click.echo(
        f"{len(records)} stages, {len(records) - len(missing)} cached; the other {len(missing)} take {at_least}{known:.1f} s{rest}"
    )
    return 0
