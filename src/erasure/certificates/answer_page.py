"""The page for the person who asked to be forgotten: what was done, what it means and what not, and whom to ask; no training needed."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from datetime import datetime

from erasure.certificates.statement import Statement

__all__ = ["answer_page"]

_STYLE = (
    "body{font:17px/1.55 Georgia,serif;max-width:42em;margin:3em auto;padding:0 1.2em;color:#1a1a1a;background:#fff}"
    "h1{font-size:1.6em;line-height:1.2}h2{font-size:1.1em;margin:1.6em 0 .4em}.lead{font-size:1.1em}"
    "p,ul{margin:.4em 0}li{margin:.3em 0}details{margin-top:2.4em;border-top:1px solid #ccc;padding-top:.8em;font-size:.9em}"
    "summary{cursor:pointer;color:#555}"
    "dl{display:grid;grid-template-columns:max-content 1fr;gap:.3em 1.2em}dt{color:#555}dd{margin:0;overflow-wrap:anywhere}"
    "@page{margin:18mm}@media print{body{margin:0;max-width:none;padding:0;font-size:11pt}h1,h2,summary{break-after:avoid}"
    "li,dt,dd{break-inside:avoid}p{orphans:3;widows:3}details{break-before:page;border:0}summary{list-style:none}"
    "details::details-content{content-visibility:visible;display:block;block-size:auto}}"
)

_ABOUT = (
    "A model is a computer program that has learned from many records how to answer; a record is one entry, such as a photograph, a text "
    "or a line of a table. Taking a record off a list does not change what a model has learned from it already. So the model itself had to "
    "be changed."
)


def answer_page(statement: Statement | None, *, refusal: str = "", n_forgotten: int = 0, contact: str = "") -> str:
    """A page of plain HTML that prints on one or two sheets and loads nothing; what only experts need is folded at its end.

    Args:
        statement: What is certified; None if there is no certificate.
        refusal: Why there is none.
        n_forgotten: Samples that were to be forgotten, where there is no statement.
        contact: Whom the person may ask, such as a name and an address; empty if nobody is named.
    """
    if statement is None or refusal:
        title, body = (
            "It could not be shown that the model has forgotten your data",
            _refused(refusal, _records(n_forgotten), contact),
        )
    else:
        title, body = _title(statement), _certified(statement, _records(statement.n_forgotten), contact)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><main><h1>{title}</h1>{body}</main></body></html>\n"
    )


def _records(n: int) -> str:
    return "record" if n == 1 else f"{n:,} records"


def _title(statement: Statement) -> str:
    if statement.guarantee.kind == "exact":
        return "The model was rebuilt without your data"
    return "The model was changed to forget your data"


def _certified(statement: Statement, records: str, contact: str) -> str:
    done, means = _done_and_meant(statement, records)
    day = f" This was finished on {_day(statement.finished)}." if statement.finished else ""
    return (
        f'<p class="lead">You asked that your {records} be forgotten.{day}</p>'
        f"<h2>What this is about</h2><p>{_ABOUT}</p>"
        f"<h2>What was done</h2><p>{done}</p>"
        f"<h2>What it means for you</h2><p>{means}</p>"
        f"<h2>What it does not mean</h2><ul>{_listed(_not_meant(statement))}</ul>"
        f"{_whom_to_ask(contact, has_certificate=True)}{_for_experts(statement)}"
    )


def _done_and_meant(statement: Statement, records: str) -> tuple[str, str]:
    if statement.verdict == "certified":
        eps = statement.guarantee.eps or 0.0
        sure = f"{100 / (1 + math.exp(-eps)):.0f} %"
        return (
            f"The model was changed, and some chance was mixed into it on purpose, so that what it had learned from your {records} is "
            "covered up. A mathematical proof says how well.",
            "Nobody can find out from the model with any confidence whether it ever learned from your data. Somebody who takes it for as "
            f"likely as not cannot be more than {sure} sure of it after looking at the model, but for a very small chance.",
        )
    if statement.guarantee.kind == "exact":
        done = (
            f"The parts of the model that had learned from your {records} were made again, without your data."
            if statement.verdict == "exact"
            else f"The model was trained again from the beginning, with everything it had learned from except your {records}."
        )
        return done, "The model in use now has never learned from your data. What it answers does not come from it."
    return (
        f"The model was changed so that it answers as if it had never learned from your {records}. To check this, it was compared with "
        f"{statement.n_golds} models that really were trained without your data. It could not be told from these.",
        "Somebody who puts questions to the model, in the ways that were tried, does not find out from its answers that it once learned "
        "from your data. This was measured, not proved: like a medical examination that finds nothing, it may have missed something.",
    )


def _not_meant(statement: Statement) -> list[str]:
    measured = statement.guarantee.kind not in {"exact", "certified"}
    trace = ["That no trace can ever be found. Somebody may look in a way that nobody has tried yet."] if measured else []
    return [
        "That your data is deleted everywhere. This page is about the model alone: not about the collection that it learned from, about "
        "backups, or about other models.",
        "That nothing is left of the old model. People may have used it, written down its answers or copied it.",
        *trace,
        "That somebody independent has watched. Those who run the model say all this themselves. Their statement is signed, so that nobody "
        "can change it unnoticed, but a signature does not make it true.",
        "That a law has been followed. Whether this is enough in your case is a legal question.",
    ]


def _whom_to_ask(contact: str, *, has_certificate: bool) -> str:
    first = html.escape(contact) if contact else "Those who sent you this page"
    certificate = (
        " Give them this page and the certificate: ask those who run the model for the file <code>certificate.json</code>. The last part "
        "of this page, for experts, says how to check it."
        if has_certificate
        else " Give them this page."
    )
    return (
        f"<h2>Whom to ask</h2><p>{first}. If the answer does not satisfy you, you can turn to the data protection authority where you "
        f"live, or to anybody you trust who knows about such models.{certificate}</p>"
    )


def _for_experts(statement: Statement) -> str:
    promise = _listed(html.escape(each) for each in statement.guarantee.assumptions)
    assumed = f"<p>This rests on:</p><ul>{promise}</ul>" if promise else ""
    guarantee = str(statement.guarantee) if statement.guarantee.kind != "none" else ""
    facts = {
        "Finished": statement.finished,
        "Method": statement.method,
        "Finding": statement.verdict_sentence,
        "Guarantee": guarantee,
        "Model before": statement.original,
        "Model after": statement.unlearned,
        "Request": statement.request,
    }
    return _folded(
        "For experts who want to check this",
        "<p><code>erasure verify certificate.json --model MODEL --key KEY --evidence EVIDENCE</code> checks that the certificate is "
        "unchanged, that it is about this model, who signed it, and that its numbers are those of the stored results. Obtain the public "
        f"key by another way than the certificate.</p>{assumed}{_table(facts)}",
    )


def _refused(refusal: str, records: str, contact: str) -> str:
    return (
        f'<p class="lead">You asked that your {records} be forgotten. It could not be shown that this was done, so that no certificate was '
        "issued.</p>"
        f"<h2>What this is about</h2><p>{_ABOUT}</p>"
        "<h2>What was done</h2><p>A changed model was made and checked. The check did not show that it has forgotten enough, or that it "
        "still works well enough.</p>"
        "<h2>What it means for you</h2><p>Your request is not settled. Take it that models in use may still show traces of your data.</p>"
        "<h2>What it does not mean</h2><p>That it cannot be done: a model can always be trained again without your data.</p>"
        f"{_whom_to_ask(contact, has_certificate=False)}"
        f"{_folded('For experts: the reason', f'<p>{html.escape(refusal)}</p>')}"
    )


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>{content}</details>"


def _table(facts: dict[str, str]) -> str:
    listed = "".join(f"<dt>{name}</dt><dd>{html.escape(text)}</dd>" for name, text in facts.items() if text)
    return f"<dl>{listed}</dl>"


def _listed(sentences: Iterable[str]) -> str:
    return "".join(f"<li>{each}</li>" for each in sentences)


def _day(finished: str) -> str:
    try:
        found = datetime.fromisoformat(finished)
    except ValueError:
        return html.escape(finished)
    return f"{found.day} {found:%B %Y}"
