"""Answered requests in MLflow's model registry: a new version of the model, with the certificate as artifact."""

from __future__ import annotations

from typing import Any

from erasure.errors import MissingDependency
from erasure.workflows.deletion import Answer
from erasure.workflows.deletion_folder import CERTIFICATE_FILE, EVIDENCE_FOLDER, MODEL_FOLDER, PAGE_FILE

__all__ = ["register"]


def register(answer: Answer, name: str, *, tracking_uri: str | None = None, experiment: str = "deletion requests") -> Any:
    """Make the model of an answer a new version of a registered model.

    Weights, evidence, page and, where there is one, the certificate are artifacts of a run of their own. A request that has a version
    already gets no second one.

    Args:
        answer: From :func:`erasure.forget`.
        name: Of the registered model, made if there is none.
        tracking_uri: MLflow's; by default the one that is set.
        experiment: Where the run goes.

    Returns:
        The ``ModelVersion``.
    """
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ModuleNotFoundError as error:
        raise MissingDependency("mlflow", "track", "registering a model") from error
    client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    entry = answer.entry
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get("erasure.unlearned") == entry.unlearned:
            return version
    found = client.get_experiment_by_name(experiment)
    run = client.create_run(found.experiment_id if found is not None else client.create_experiment(experiment))
    for part in (MODEL_FOLDER, EVIDENCE_FOLDER):
        client.log_artifacts(run.info.run_id, str(answer.folder / part), part)
    for part in (CERTIFICATE_FILE, PAGE_FILE):
        if (answer.folder / part).exists():
            client.log_artifact(run.info.run_id, str(answer.folder / part))
    tags = {
        "erasure.request": entry.request,
        "erasure.original": entry.original,
        "erasure.unlearned": entry.unlearned,
        "erasure.verdict": entry.verdict,
        "erasure.certificate": entry.certificate or f"none: {entry.refusal}",
    }
    client.set_terminated(run.info.run_id)
    return client.create_model_version(name, f"{run.info.artifact_uri}/{MODEL_FOLDER}", run.info.run_id, tags=tags)
