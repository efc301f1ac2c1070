"""Verdicts in sentences: what differs from retrained models, how surely, and what a run could not have seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from erasure.analysis.findings import Difference, Finding, Tested, TestedReport

__all__ = ["NOTHING_TO_FORGET", "evidence", "joined", "listed", "number", "p_text", "sentence", "what"]

NOTHING_TO_FORGET = (
    "These values show nothing that could be forgotten: the original model, which has forgotten nothing, is not told from models that were "
    "retrained without the samples."
)
"""Where the original could have been told from retrained models and was not."""
_HARM = {
    Finding.UNDER_FORGOTTEN: (
        "The original, too, does worse there than retrained models: the harm that the forgotten data did to it is left.",
    )
}
"""What a verdict rests on where no value on forgotten data speaks for it."""
_FEW = 3
"""Differences that are spelled out; the table has all of them."""
_FAR = 100.0
"""Standard deviations; a run that finds no smaller difference finds nothing."""
_SAMPLES = {"forgotten": "forgotten samples", "retained": "retained samples", "held-out": "unseen samples"}


def evidence(tested: Tested, report: TestedReport) -> tuple[str, ...]:
    """Why a method has its verdict, the deciding sentence first."""
    if tested.finding == Finding.UNDECIDED:
        return (f"{tested.reason[:1].upper()}{tested.reason[1:]}.", *_left_out(tested))
    if tested.is_accused:
        accusing = [each for each in tested.differences if tested.is_told_by(each, report.level)]
        populations = _populations(tested, report.level)
        if not accusing:
            return (*populations, *_left_out(tested))
        assumption = (
            ("This assumes that the values of retrained models are normally distributed.",) if tested.basis == "t" else ()
        )
        harm = () if any(_speaks(each, tested.finding) for each in accusing) else _HARM.get(tested.finding, ())
        return (*_sentences(_deciding_first(accusing, tested.finding)), *harm, *assumption, *populations, *_left_out(tested))
    n = sum(each.p is not None for each in tested.differences)
    if not n:
        alike = "Every value is the same in all models, retrained ones and unlearned ones; nothing can be told by them."
        return (alike, *_left_out(tested))
    values = "1 value" if n == 1 else f"{n} values"
    start = f"No difference from retrained models was found in {values}{_smallest(tested)}."
    if tested.adjusted is not None and tested.adjusted <= report.level:
        start = f"No difference from retrained models that is more than negligible was found in {values}{_smallest(tested)}."
    if tested.adjusted is None and tested.p is not None and tested.p <= report.level:
        start = f"Retraining itself, which is not accused: of its {values} the farthest one has p = {p_text(tested.p)}."
    if tested.finding == Finding.INDISTINGUISHABLE:
        left = tested.memory.high if tested.memory is not None else 0.0
        return (start, f"At most {_percent(left)} of the original's memory of the forgotten samples is left.", *_left_out(tested))
    return (start, *_possible(tested, report), *_left_out(tested))


def _populations(tested: Tested, level: float) -> tuple[str, ...]:
    """What measures of many models at once tell apart."""
    return tuple(
        f"{each.measure} tells many models of this method from as many retrained ones, whichever way they differ "
        f"(p = {p_text(each.p)}{f' over {each.n} repetitions' if each.n > 1 else ''})."
        for each in tested.telling_populations(level)
    )


def _smallest(tested: Tested) -> str:
    """The p-value by which nothing was found: over all methods, of which it is corrected where several were tested."""
    p = tested.p if tested.adjusted is None else tested.adjusted
    if p is None:
        return ""
    return f" (p = {p_text(p)}{', if their values are normally distributed' if tested.basis == 't' else ''})"


def _possible(tested: Tested, report: TestedReport) -> tuple[str, ...]:
    """What may still be different, and what would settle it."""
    reason = f"{tested.reason[:1].upper()}{tested.reason[1:]}"
    settled = f"; {tested.remedy}" if tested.remedy else ""
    found = [f"{reason}{settled}."]
    if report.detection is not None and report.detection.shift < _FAR:
        own = report.detection.of_originals(min(tested.n_originals, report.detection.n_originals) or 1).shift
        found.append(
            f"A difference below {own:.1f} standard deviations of a retrained model may be missed{_example(tested, own)}."
        )
    return tuple(found)


def _example(tested: Tested, shift: float) -> str:
    known = [d for d in tested.differences if d.column.claim == "forgotten" and d.column.is_share and d.gold_sd]
    return f", such as {100 * shift * known[0].gold_sd:.1f} points of {what(known[0])}" if known else ""


def _left_out(tested: Tested) -> tuple[str, ...]:
    names = tested.left_out
    if not names:
        return ()
    return (
        f"Not compared, because some model lacks {'it' if len(names) == 1 else 'them'}: {joined(names[:_FEW])}{_more(len(names))}.",
    )


def _more(n: int) -> str:
    return f" and {n - _FEW} more" if n > _FEW else ""


def _deciding_first(accusing: Sequence[Difference], finding: Finding) -> list[Difference]:
    """Those that speak for the verdict before others, each group the farthest first."""
    return sorted(accusing, key=lambda each: not _speaks(each, finding))


def _speaks(each: Difference, finding: Finding) -> bool:
    if finding == Finding.DAMAGED:
        return each.column.claim in {"retained", "held-out"} and each.side < 0
    side = {Finding.UNDER_FORGOTTEN: 1, Finding.OVER_FORGOTTEN: -1}.get(finding)
    return side is None or (each.column.claim in {"forgotten", "traces"} and each.side == side)


def _sentences(accusing: Sequence[Difference]) -> tuple[str, ...]:
    """The first few in words, of each attack the one that tells most, and how many more there are."""
    firsts: dict[str, Difference] = {}
    for each in accusing:
        firsts.setdefault(each.column.measure.split()[0] if each.column.tells == "attack" else what(each), each)
    shown = list(firsts.values())[:_FEW]
    more = len(accusing) - len(shown)
    rest = (f"{more} further {'value differs' if more == 1 else 'values differ'}.",) if more > 0 else ()
    first, *others = (sentence(each) for each in shown)
    telling = (
        f"Of a retrained and an unlearned model, this value picks out the unlearned one in {_of_hundred(shown[0])} of 100 cases."
    )
    return (first, telling, *others, *rest)


def sentence(each: Difference) -> str:
    """A difference in its own unit, with its p-value."""
    name = what(each)
    name = f"{name[:1].upper()}{name[1:]}" if not name.split(" ")[0].isupper() else name
    p = f", p = {p_text(each.p)}" if each.p is not None else ""
    value, gold, amount = (_shown(each, found) for found in (each.value, each.gold, abs(each.amount)))
    if each.column.is_share:
        amount = f"{100 * abs(each.amount):.1f} points"
    if each.is_scattered:
        return f"{name} scatters: it is {amount} from retrained models, to either side ({value} on average, they have {gold}{p})."
    side = "more" if each.amount > 0 else "less"
    return f"{name} is {value}; retrained models have {gold} ({amount} {side}{p})."


def _shown(each: Difference, value: float) -> str:
    return f"{100 * value:.1f}\u00a0%" if each.column.is_share else number(value, each.column.unit)


def _of_hundred(each: Difference) -> str:
    return f"{min(99, max(50, round(100 * each.telling_rate)))}"


def what(each: Difference) -> str:
    """A value in words: the measure, and the samples it was taken on."""
    column = each.column
    name = f"the attack {column.measure}" if column.tells == "attack" else column.measure
    samples = _SAMPLES.get(column.claim) or ("forgotten samples" if column.tells == "attack" else column.partition)
    return f"{name} on {samples}" if samples and column.partition else name


def listed(differences: Iterable[Difference]) -> str:
    """Values in words, the first few."""
    names = list(dict.fromkeys(what(each) for each in differences))
    return joined(names if len(names) <= _FEW else [*names[:_FEW], f"{len(names) - _FEW} more"])


def joined(words: Sequence[str]) -> str:
    """Words as an enumeration: ``a, b and c``."""
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def p_text(p: float) -> str:
    """A p-value to two digits; small ones as a bound."""
    return f"{p:.2g}" if p >= 0.001 else "0.001 or less"


def _percent(share: float) -> str:
    return f"{max(0.0, 100 * share):.0f}\u00a0%"


def number(value: float, unit: str = "") -> str:
    """A value to three digits, with its unit."""
    text = f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    if value and abs(value) < 0.0005:
        text = f"{value:.1e}"
    return f"{text} {unit}".rstrip()
