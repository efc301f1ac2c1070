"""What a ledger tells of a model over many requests: whether it drifts away from retraining, and when to retrain."""

from __future__ import annotations

from collections.abc import Sequence

from erasure.records.requests import RequestEntry

__all__ = ["stream_advice"]

_FAR = 2.0
"""Root mean square distance from retrained models, in their standard deviations; of a retrained model it is about 1."""
_STREAK = 5


def stream_advice(entries: Sequence[RequestEntry]) -> list[str]:
    """Sentences on the model that the last entry has led to; none if there is nothing to say.

    Args:
        entries: Of a ledger, in its order.
    """
    line = _line(entries)
    if not line:
        return []
    last, said = line[-1], []
    again = max((place for place, entry in enumerate(line) if entry.verdict == "retrained"), default=0)
    uncertified = [entry.number for entry in line[again:] if not entry.certificate]  # a retrained model descends from none
    if uncertified:
        numbers = ", ".join(map(str, uncertified))
        which, it = (f"Request {numbers} has", "it") if len(uncertified) == 1 else (f"Requests {numbers} have", "them")
        said.append(f"{which} no certificate, and the present model descends from {it}: retrain.")
    since = _since_retraining(line)
    drifts = [entry.drift for entry in since if entry.drift is not None]
    if drifts and last.guarantee != "exact" and drifts[-1] > _FAR:
        said.append(
            f"The model is {drifts[-1]:.1f} standard deviations of retrained models away from them, as measured for request "
            f"{last.number}: retrain before the next request."
        )
    elif len(drifts) >= 2 and last.guarantee != "exact" and drifts[-1] > max(1.0, 1.5 * drifts[0]):
        first = f"{drifts[0]:.1f} standard deviations after request {since[0].number}"
        said.append(f"The model drifts away from retraining: {first}, now {drifts[-1]:.1f}.")
    approximate = [entry for entry in since if entry.guarantee != "exact"]
    if len(approximate) >= _STREAK:
        said.append(
            f"{len(approximate)} requests in a row were answered without retraining: what each leaves adds up, retrain soon."
        )
    spent = sum(entry.cost_s for entry in line)
    if last.retraining_s and spent:
        n = "1 request has" if len(line) == 1 else f"{len(line)} requests have"
        said.append(f"{n} cost {spent / last.retraining_s:.1f} retrainings, evidence included.")
    return said


def _line(entries: Sequence[RequestEntry]) -> list[RequestEntry]:
    """The requests that led to the model of the last entry, the first one first."""
    made = {entry.unlearned: entry for entry in entries}
    found: list[RequestEntry] = []
    model = entries[-1].unlearned if entries else ""
    while (entry := made.pop(model, None)) is not None:
        found.append(entry)
        model = entry.original
    return found[::-1]


def _since_retraining(line: Sequence[RequestEntry]) -> Sequence[RequestEntry]:
    """The requests after the last one that was answered exactly, or it alone."""
    exact = [place for place, entry in enumerate(line) if entry.guarantee == "exact"]
    return line[exact[-1] + 1 :] or line[-1:] if exact else line
