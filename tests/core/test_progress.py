"""Lines of progress, with a clock and a terminal made for the test."""

import io
import re
import subprocess
import sys

import pytest

from rlgen.core.progress import Progress, StageProgress, live_line, plain_line

STAGES = ["demos", "bc", "ppo"]


class Clock:
    def __init__(self):
        self.time = 100.0

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


def plain(clock, **options):
    stream = io.StringIO()
    return stream, Progress(STAGES, stream=stream, clock=clock, **options)


def test_plain_lines_at_start_and_end_and_no_more_often_than_configured(clock):
    stream, progress = plain(clock, every=5.0)
    with progress.stage("bc", total=40, unit="updates") as stage:
        for _ in range(40):
            clock.time += 0.5
            stage.update(note="loss 0.1")
    assert stream.getvalue().splitlines() == [
        "[2/3] bc ...",
        "[2/3] bc: 10/40 updates, 5 s, about 15 s left  loss 0.1",
        "[2/3] bc: 20/40 updates, 10 s, about 10 s left  loss 0.1",
        "[2/3] bc: 30/40 updates, 15 s, about 5 s left  loss 0.1",
        "[2/3] bc: 40/40 updates, 20 s  loss 0.1",
        "[2/3] bc: done in 20 s  loss 0.1",
    ]
    assert stage.elapsed == 20.0
    clock.time += 100
    assert stage.elapsed == 20.0


def test_messages_are_written_at_once(clock):
    stream, progress = plain(clock)
    progress.skip("demos", "done before")
    with progress.stage("ppo") as stage:
        stage.log("compiling the sampler (about 20 s)")
        assert stream.getvalue().endswith("[3/3] ppo: compiling the sampler (about 20 s)\n")
    assert stream.getvalue().startswith("[1/3] demos: done before\n")


def test_a_stage_outside_the_list_has_no_position(clock):
    stream, progress = plain(clock)
    with progress.stage("replay"):
        pass
    assert stream.getvalue() == "replay ...\nreplay: done in 0.00 s\n"


@pytest.mark.parametrize(("error", "word"), [(KeyboardInterrupt, "interrupted"), (OSError, "stopped")])
def test_an_error_passes_and_the_last_line_says_where(clock, error, word):
    stream, progress = plain(clock)
    with pytest.raises(error), progress.stage("ppo", total=40) as stage:
        clock.time += 3
        stage.update(advance=12, note="success 0.62 (31/50)")
        raise error
    assert stream.getvalue().splitlines()[-1] == f"[3/3] ppo: {word} after 3.0 s at 12/40  success 0.62 (31/50)"


def test_the_estimate_leaves_compilation_out_and_counts_down(clock):
    stage = StageProgress("ppo", 10, 0, "", clock)
    assert stage.left is None
    clock.time += 60  # compiling
    stage.update()
    assert stage.left is None
    clock.time += 2
    stage.update()
    assert stage.left == pytest.approx(16)
    clock.time += 1
    assert stage.left == pytest.approx(15)
    clock.time += 100
    assert stage.left == 0


def test_the_estimate_of_a_resumed_stage_knows_only_its_own_speed(clock):
    stage = StageProgress("ppo", 100, 90, "", clock)
    for _ in range(2):
        clock.time += 4
        stage.update()
    assert stage.left == pytest.approx(32)
    assert "92/100" in plain_line(stage)


def test_the_total_may_come_later_or_never(clock):
    stage = StageProgress("collect", None, 0, "episodes", clock)
    assert plain_line(stage) == "collect: 0 s"
    stage.update(advance=3)
    clock.time += 1
    stage.update(advance=0, note="none yet")
    assert plain_line(stage) == "collect: 3 episodes, 1 s  none yet"
    stage.total = 50
    assert "3/50 episodes" in plain_line(stage)


@pytest.mark.parametrize("width", [20, 60, 200])
def test_the_live_line_never_gets_longer_than_the_terminal(clock, width):
    stage = StageProgress("[3/9] ppo", 40, 12, "updates", clock)
    stage.update(note="success 0.62 (31/50) " * 5)
    line = live_line(stage, width)
    assert line.cell_len < width
    assert "\n" not in line.plain


def test_the_live_display_hides_the_cursor_only_while_it_is_shown(clock):
    stream = io.StringIO()
    progress = Progress(STAGES, stream=stream, clock=clock, live=True)
    with pytest.raises(KeyboardInterrupt), progress.stage("ppo", total=4) as stage:
        stage.update(note="success 0.50 (2/4)")
        stage.log("compiling")
        raise KeyboardInterrupt
    written = stream.getvalue()
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    assert "compiling" in written
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).splitlines()[-1]
    assert last.strip() == "[3/3] ppo: interrupted after 0.00 s at 1/4  success 0.50 (2/4)"


def test_markup_in_notes_is_text(clock):
    stream = io.StringIO()
    with Progress(stream=stream, clock=clock, live=True).stage("[bold]x[/]") as stage:
        stage.update(note="[red]5[/red] :smile:")
    assert "[bold]x[/]: done in 0.00 s  [red]5[/red] :smile:" in stream.getvalue()


def test_a_stream_without_the_characters_gets_question_marks(clock):
    raw = io.BytesIO()
    progress = Progress(STAGES, stream=io.TextIOWrapper(raw, encoding="ascii"), clock=clock)
    with progress.stage("bc") as stage:
        stage.log("waiting…")
    assert b"[2/3] bc: waiting?\n" in raw.getvalue()


def test_without_a_terminal_no_control_characters_are_written():
    code = "from rlgen.core.progress import Progress\nwith Progress().stage('x', 2) as s: s.update()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.startswith(b"x ...\nx: done in ") and b"\x1b" not in done.stdout
