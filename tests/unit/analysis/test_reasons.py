"""The reason of a verdict never contradicts it, whatever the values are."""

import re

from hypothesis import given
from hypothesis import strategies as st
from report_rows import method

from erasure.analysis.gaps import Roles
from erasure.analysis.verdicts import TITLES, judge_all

SHARES = st.floats(0, 1).map(lambda value: round(value, 3))
LINE = re.compile(r"([\d.]+)\u00a0% right on (forgotten|retained|held-out|unseen) samples; a retrained model ([\d.]+)")


@given(st.lists(st.fixed_dictionaries({"forget": SHARES, "retain": SHARES, "test": SHARES}), min_size=1, max_size=4))
def test_reasons_do_not_contradict_verdicts(repetitions):
    rows = [each for seed, values in enumerate(repetitions) for each in method("m", seed_train=seed, **values)]
    (judgement,) = judge_all(rows, Roles(), {})
    first, *_ = judgement.evidence
    assert judgement.verdict in TITLES
    found = LINE.match(first)
    if judgement.verdict in {"under-forgotten", "over-forgotten"} and found:
        value, where, gold = float(found[1]), found[2], float(found[3])
        assert where == "forgotten"
        assert value >= gold if judgement.verdict == "under-forgotten" else value <= gold
    if judgement.verdict == "damaged" and found:
        assert found[2] != "forgotten"
        assert float(found[1]) <= float(found[3])
    if judgement.verdict == "indistinguishable":
        assert first.startswith("No difference")
        assert len(judgement.evidence) == 1
    else:
        assert not first.startswith("No difference")
    if judgement.verdict == "undecided":
        assert first.startswith("There is no")


def test_a_reason_names_what_decided():
    (judgement,) = judge_all(method("m", forget=0.99), Roles(), {})
    assert LINE.match(judgement.evidence[0])  # else the property above would test nothing
