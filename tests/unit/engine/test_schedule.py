from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from erasure.engine.executors.schedule import StageOrder


def _stages(edges):
    return {name: SimpleNamespace(address=name, requires=tuple(requires)) for name, requires in edges.items()}


def test_stages_run_in_the_order_of_the_plan_after_what_they_require():
    schedule = StageOrder(_stages({"a": "", "b": "a", "c": "", "d": "bc"}))
    order = []
    while (stage := schedule.take()) is not None:
        order.append(stage.address)
        schedule.finish(stage)
    assert order == ["a", "b", "c", "d"]
    assert schedule.n_left == 0


def test_a_failure_takes_what_depends_on_it_and_nothing_else():
    schedule = StageOrder(_stages({"a": "", "b": "a", "c": "b", "d": "", "e": "cd"}))
    schedule.fail(schedule.take(), "broken")
    done = []
    while (stage := schedule.take()) is not None:
        done.append(stage.address)
        schedule.finish(stage)
    assert done == ["d"]
    assert schedule.failed == dict.fromkeys("abce", "broken")
    assert schedule.n_left == 0


def test_of_several_failures_the_plans_first_is_the_reason_whichever_ended_first():
    edges = {"a": "", "b": "", "c": "ab", "d": "c"}
    for order in ("ab", "ba"):
        schedule = StageOrder(_stages(edges))
        for name in order:
            schedule.fail(schedule.stages[name], f"{name} is broken")
        assert schedule.failed == {"a": "a is broken", "b": "b is broken", "c": "a is broken", "d": "a is broken"}
        assert schedule.n_left == 0


def test_what_is_put_first_comes_before_all_others_with_what_it_requires():
    schedule = StageOrder(_stages({"a": "", "b": "", "c": "b", "d": "", "e": "c"}))
    assert schedule.put_first({"c", "elsewhere"}) >= {"b", "c"}
    order = []
    while (stage := schedule.take()) is not None:
        order.append(stage.address)
        schedule.finish(stage)
    assert order == ["b", "c", "a", "d", "e"]


def test_a_stage_that_is_put_back_comes_again():
    schedule = StageOrder(_stages({"a": "", "b": ""}))
    first = schedule.take()
    schedule.put_back(first)
    assert schedule.take() is first


def test_what_is_not_planned_is_not_waited_for():
    schedule = StageOrder(_stages({"a": "z"}))
    assert schedule.take().address == "a"


@given(st.data())
def test_any_graph_is_worked_off_whatever_fails(data):
    n = data.draw(st.integers(1, 12))
    edges = {str(i): [str(j) for j in range(i) if data.draw(st.booleans())] for i in range(n)}
    broken = {str(i) for i in range(n) if data.draw(st.booleans())}
    schedule = StageOrder(_stages(edges))
    finished = set()
    while (stage := schedule.take()) is not None:
        assert set(edges[stage.address]) <= finished
        if stage.address in broken:
            schedule.fail(stage, stage.address)
        else:
            schedule.finish(stage)
            finished.add(stage.address)
    assert schedule.n_left == 0
    assert finished | set(schedule.failed) == set(edges)
    assert not finished & set(schedule.failed)
