"""What a certificate claims of an answer, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from erasure.accounting.guarantee import Guarantee
from erasure.analysis.findings import Tested
from erasure.certificates.statement import CertifiedValue, Statement
from erasure.component import canonical
from erasure.engine.recording.provenance import versions
from erasure.unlearners.contract import Unlearner
from erasure.workflows.audit import Audit, memory_words, p_words
from erasure.workflows.deletion_folder import rows_digest

__all__ = ["BY_PROOF", "RETRAINING", "stated", "verdict_of"]

RETRAINING = "Retraining"
BY_PROOF = {"exact": "exact", "certified": "certified"}
"""Kind of a guarantee to the verdict that rests on it alone."""


def verdict_of(label: str, guarantee: Guarantee, tested: Tested | None, *, by_proof: bool) -> str:
    """The verdict's key: ``retrained``, ``exact`` or ``certified`` by proof, else what was found beside retrained models."""
    if label == RETRAINING:
        return "retrained"
    if by_proof:
        return BY_PROOF[guarantee.kind]
    return tested.finding.value if tested is not None else "undecided"


def stated(
    *,
    original: str,
    unlearned: str,
    request: str,
    n_forgotten: int,
    label: str,
    unlearner: Unlearner | None,
    guarantee: Guarantee,
    audit: Audit,
    tested: Tested | None,
    by_proof: bool,
    data: str,
    folder: Path,
    finished: str,
) -> Statement:
    """The statement on an answer.

    Args:
        original: Digest of the model before.
        unlearned: Digest of the model after.
        request: Digest of who asked.
        n_forgotten: Number of samples.
        label: What the method is called.
        unlearner: The method; None for retraining.
        guarantee: What holds by proof.
        audit: The evidence.
        tested: What the test says of the method; None without retrained models.
        by_proof: Whether the guarantee alone carries the certificate.
        data: Fingerprint of the training data.
        folder: Where the evidence is.
        finished: When.
    """
    found = versions()
    verdict = verdict_of(label, guarantee, tested, by_proof=by_proof)
    is_tested = tested is not None and label != RETRAINING and not by_proof
    values = [
        CertifiedValue(
            measure=each.column.measure,
            partition=each.column.partition,
            unlearned=each.value,
            gold=each.gold,
            gold_sd=each.gold_sd,
            p=each.p if is_tested else None,
        )
        for each in (tested.differences if tested is not None else ())
    ]
    golds = {(row.seed_train, row.number) for row in audit.jury}
    parameters: Mapping[str, Any] = {}
    if unlearner is not None:
        parameters = cast(dict[str, Any], canonical(unlearner)).get("parameters", {})
    return Statement(
        original=original,
        unlearned=unlearned,
        request=request,
        n_forgotten=n_forgotten,
        method=label,
        method_version=str(found["erasure"]),
        parameters=parameters,
        verdict=verdict,
        verdict_sentence=_sentence(verdict, guarantee, tested, len(golds)),
        findings=tuple(values),
        n_golds=len(golds),
        guarantee=guarantee,
        data=data,
        rows=rows_digest(folder),
        versions={name: str(value) for name, value in found.items()},
        finished=finished,
    )


def _sentence(verdict: str, guarantee: Guarantee, tested: Tested | None, n_golds: int) -> str:
    if verdict == "retrained":
        return "The model was trained from scratch without the samples."
    if verdict == "exact":
        return "Provably, the model is one that training without the samples gives."
    if verdict == "certified":
        return (
            f"Provably, nobody can distinguish the model from a retrained one by more than epsilon = {guarantee.eps:.3g} and "
            f"delta = {guarantee.delta:.3g} allow."
        )
    if tested is None:
        return "Nothing could be compared."
    beside = f"Beside {n_golds} retrained models, over {tested.n_originals} originals,"
    if verdict != "indistinguishable":
        return f"{beside} the method was found {verdict}{p_words(tested)}."
    return f"{beside} no difference was found{p_words(tested)}.{memory_words(tested)}"
