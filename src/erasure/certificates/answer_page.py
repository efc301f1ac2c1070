"""The page for the person who asked to be forgotten: what was done, how it was checked, and what that does not prove."""

from __future__ import annotations

import html

from erasure.certificates.statement import Statement

__all__ = ["answer_page"]

_STYLE = (
    "body{font:17px/1.55 Georgia,serif;max-width:42em;margin:3em auto;padding:0 1.2em;color:#1a1a1a;background:#fff}"
    "h1{font-size:1.6em;line-height:1.2}h2{font-size:1.1em;margin-top:2em}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.3em 1.2em}dt{color:#555}dd{margin:0;overflow-wrap:anywhere}"
    "@page{margin:20mm}@media print{body{margin:0;max-width:none;padding:0;font-size:11pt}h1,h2{break-after:avoid}"
    "li,dt,dd{break-inside:avoid}p{orphans:3;widows:3}}"
)


def answer_page(statement: Statement | None, *, refusal: str = "", number: int = 0, n_forgotten: int = 0) -> str:
    """A page of plain HTML that prints on one or two sheets and loads nothing.

    Args:
        statement: What is certified; None if there is no certificate.
        refusal: Why there is none.
        number: Of the request, 0 if it has none yet.
        n_forgotten: Samples that were to be forgotten, where there is no statement.
    """
    n = statement.n_forgotten if statement is not None else n_forgotten
    records = "1 record" if n == 1 else f"{n:,} records"
    body = _certified(statement, records) if statement is not None and not refusal else _refused(refusal, records)
    title = (
        "Your data has been removed from the model" if statement is not None and not refusal else "Your request is not certified"
    )
    reference = f"<p>Request {number}</p>" if number else ""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><main><h1>{title}</h1>{reference}{body}</main></body></html>\n"
    )


def _certified(statement: Statement, records: str) -> str:
    how = _how(statement, records)
    promise = "".join(f"<li>{html.escape(each)}</li>" for each in statement.guarantee.assumptions)
    assumed = f"<h2>What this rests on</h2><ul>{promise}</ul>" if promise else ""
    facts = {
        "Finished": statement.finished,
        "Way": statement.method,
        "Finding": statement.verdict_sentence,
        "Model before": statement.original,
        "Model after": statement.unlearned,
        "Your request": statement.request,
    }
    listed = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items() if text)
    return (
        f"<p>{how}</p>{assumed}"
        "<h2>What this does not tell you</h2><ul>"
        "<li>Whether other copies of your data, or of the old model, are kept somewhere.</li>"
        "<li>Whether those who signed described their data and their training truthfully.</li>"
        f"<li>{_unproved(statement)}</li></ul>"
        f"<h2>For whoever wants to check</h2><p>The signed certificate can be checked by anybody with <code>erasure verify</code>.</p>"
        f"<dl>{listed}</dl>"
    )


def _how(statement: Statement, records: str) -> str:
    if statement.verdict == "certified":
        return (
            f"The model was changed, with random noise, so that by mathematical proof nobody can tell it with confidence from a model that "
            f"never learned from your {records} ({html.escape(str(statement.guarantee))})."
        )
    if statement.verdict == "exact":
        return (
            f"The parts of the model that had learned from your {records} were made again without them. By mathematical proof the model is "
            "now one that never learned from them."
        )
    if statement.guarantee.kind == "exact":
        return (
            f"The model was trained again from the beginning without your {records}. It is a model that never learned from them."
        )
    return (
        f"The model was changed so that it behaves as if it had never learned from your {records}. To check this, it was compared with "
        f"{statement.n_golds} models that really were trained without them. It could not be told from these."
    )


def _unproved(statement: Statement) -> str:
    if statement.guarantee.kind == "exact":
        return "What people or other programs have already learned from the old model."
    return "Whether a way of looking that nobody has tried would still find a trace: measurements cannot rule that out."


def _refused(refusal: str, records: str) -> str:
    return (
        f"<p>You asked that {records} be forgotten. What was done could not be shown to be enough, and so no certificate was issued.</p>"
        f"<h2>Why</h2><p>{html.escape(refusal)}</p>"
    )
