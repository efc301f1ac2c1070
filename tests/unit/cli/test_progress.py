"""What is drawn while a run goes on."""

import io

import pytest

from erasure.cli.progress import Terminal
from erasure.events import EpochFinished, Message, RunStarted, StageFailed, StageFinished, StageStarted, StageWaits, TimeLeft

A = "a" * 64
EVENTS = [
    StageStarted("load data", "data", A),
    StageFinished("load data", "data", A, cached=False, elapsed_s=0.1),
    StageFinished("load data", "data", A, cached=True, elapsed_s=0.0, total=4),
    StageStarted("train original", "model", A),
    EpochFinished("train original", 1, 5),
    EpochFinished("train original", 5, 5),
    StageFinished("train original", "model", A, cached=False, elapsed_s=2.0, total=4),
    Message("retain: a class is missing", level="warning"),
    StageWaits("train gold", A),
    StageStarted("unlearn SCRUB", "unlearned", A),
    StageFailed("unlearn SCRUB", "unlearned", A, "the loss is not finite", total=4),
]


class Screen(io.StringIO):
    """A terminal as rich sees one."""

    def isatty(self):
        return True


def test_short_lines_where_there_is_no_terminal(capsys):
    with Terminal() as terminal:
        for event in EVENTS:
            terminal.listen(event)
    assert capsys.readouterr().err.splitlines() == [
        "train original: 2.0 s",
        "warning: retain: a class is missing",
        "waiting for another process: train gold",
        "failed: unlearn SCRUB: the loss is not finite",
    ]


def test_quiet_says_nothing(capsys):
    with Terminal(quiet=True) as terminal:
        for event in EVENTS:
            terminal.listen(event)
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def on_a_screen(monkeypatch):
    """Makes stderr a terminal; to be called in the test, since pytest sets stderr between a fixture and its test."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("NO_COLOR", raising=False)

    def make():
        screen = Screen()
        monkeypatch.setattr("sys.stderr", screen)
        return screen

    return make


def test_bars_count_stages_and_epochs_on_a_terminal(on_a_screen):
    screen = on_a_screen()
    with Terminal() as terminal:
        for event in EVENTS[:5]:
            terminal.listen(event)
        stages, current = terminal.progress.tasks
        assert (stages.description, stages.completed, stages.total) == ("stages", 1, 4)
        assert (current.description, current.completed, current.total) == ("train original", 1, 5)
        for event in EVENTS[5:10]:
            terminal.listen(event)
        stages, current = terminal.progress.tasks
        assert (stages.completed, current.description) == (2, "unlearn SCRUB")
        assert current.total is None  # the epochs of the stage before are not its own
        terminal.listen(EVENTS[10])
        assert [task.completed for task in terminal.progress.tasks] == [3]
    drawn = screen.getvalue()
    assert "warning: retain: a class is missing" in drawn
    assert "train original: 2.0 s" not in drawn


def test_stages_that_run_at_once_have_a_bar_each(on_a_screen):
    on_a_screen()
    with Terminal() as terminal:
        terminal.listen(RunStarted(experiment="x", total=7))
        for name, where in (("train original", "a" * 64), ("train gold", "b" * 64)):
            terminal.listen(StageStarted(name, "model", where))
        terminal.listen(EpochFinished("train original", 2, 5))
        terminal.listen(EpochFinished("train gold", 3, 5))
        found = {task.description: (task.completed, task.total) for task in terminal.progress.tasks}
        assert found == {"stages": (0, 7), "train original": (2, 5), "train gold": (3, 5)}
        terminal.listen(StageFinished("train original", "model", "a" * 64, cached=False, elapsed_s=1.0, total=7))
        terminal.listen(EpochFinished("train original", 5, 5))  # late, from another process
        assert [task.description for task in terminal.progress.tasks] == ["stages", "train gold"]


def test_no_color_is_respected(on_a_screen, monkeypatch):
    screen = on_a_screen()
    with Terminal() as terminal:
        terminal.listen(EVENTS[0])
    assert "\x1b[3" in screen.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    screen = on_a_screen()
    with Terminal() as terminal:
        for event in EVENTS:
            terminal.listen(event)
    assert "\x1b[3" not in screen.getvalue()  # no colour; moving the cursor is none


def test_a_hostile_name_is_not_taken_for_markup(on_a_screen):
    screen = on_a_screen()
    with Terminal() as terminal:
        terminal.listen(StageStarted("unlearn [bold]x[/bold] [/nothing]", "unlearned", A))
        terminal.listen(StageFailed("unlearn [/nothing]", "unlearned", A, "[red] \x1b[2J", total=2))
    assert "failed: unlearn [/nothing]: [red] ?[2J" in screen.getvalue()


def test_the_time_left_stands_beside_the_bar_and_now_and_then_on_a_line(on_a_screen, capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("erasure.cli.progress.time.monotonic", lambda: now[0])
    with Terminal() as terminal:
        for passed in (1, 35, 40, 70):
            now[0] = 100.0 + passed
            terminal.listen(TimeLeft(75.0))
    assert capsys.readouterr().err.splitlines() == ["about 1 min 15 s left"] * 2
    on_a_screen()
    with Terminal() as terminal:
        terminal.listen(TimeLeft(75.0))
        assert terminal.progress.tasks[0].fields["left"] == "about 1 min 15 s left"
