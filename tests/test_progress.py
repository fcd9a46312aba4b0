"""A bar on a terminal, plain lines in a pipe, nothing where nobody asked."""

import io
import os
import pty

import pytest

from capsjax import progress
from capsjax.progress import Bar, Lines, Silent, reporter


class Clock:
    """A clock that is set by hand."""

    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_lines_come_every_few_seconds_and_at_the_end(clock):
    stream = io.StringIO()
    lines = Lines(stream, every=5.0)
    lines.start("training", 100)
    for done in range(1, 101):
        clock.now += 0.5
        lines.update(done, f"loss {done}")
    shown = stream.getvalue().splitlines()
    assert shown[0] == "training 0/100"
    assert shown[1:] == [f"training {done}/100 loss {done}" for done in range(10, 101, 10)]


def test_a_resumed_task_begins_where_it_was_and_a_note_is_optional(clock):
    stream = io.StringIO()
    lines = Lines(stream)
    lines.start("training", 8, 6)
    lines.update(7)
    lines.update(8)
    lines.say("1/2 done")
    lines.close()
    assert stream.getvalue() == "training 6/8\ntraining 8/8\n1/2 done\n"


def test_an_unknown_total_is_left_out(clock):
    stream = io.StringIO()
    lines = Lines(stream)
    lines.download("file.gz", 0, None)
    clock.now += 6
    lines.download("file.gz", 7, None)
    assert stream.getvalue() == "file.gz\nfile.gz 7\n"


def test_a_download_begins_its_own_task(clock):
    stream = io.StringIO()
    lines = Lines(stream)
    for name in ("a.gz", "b.gz"):
        for done in (0, 50, 100):
            lines.download(name, done, 100)
    assert stream.getvalue().splitlines() == [
        "a.gz 0/100",
        "a.gz 100/100",
        "b.gz 0/100",
        "b.gz 100/100",
    ]


def read_terminal(main):
    """Return what the far side of a pseudo-terminal sees."""
    shown = b""
    while True:
        try:
            part = os.read(main, 65536)
        except OSError:  # the other side is closed
            return shown.decode()
        if not part:
            return shown.decode()
        shown += part


@pytest.fixture
def terminal(monkeypatch):
    """A pseudo-terminal: its stream, and what came out of it, which closes it."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    main, side = pty.openpty()
    stream = os.fdopen(side, "w")

    def shown():
        stream.close()
        return read_terminal(main)

    yield stream, shown
    os.close(main)


def test_a_terminal_gets_a_bar(terminal):
    stream, shown = terminal
    with reporter(stream) as chosen:
        assert isinstance(chosen, Bar)
        chosen.start("smoke", 24)
        chosen.update(7, "loss 0.5")
        chosen.say("1/8 [full], seed 0")
        chosen.start("timing", 3)
        chosen.update(3)
    text = shown()
    assert "━" in text
    assert "timing" in text
    assert "3/3" in text
    assert "1/8 [full], seed 0" in text  # no markup is read into what is said
    assert text.endswith("\x1b[?25h")  # the cursor is back


def test_the_bar_says_what_is_done_and_the_note(terminal):
    stream, shown = terminal
    with reporter(stream) as chosen:
        chosen.start("smoke", 24, 3)
        chosen.update(7, "loss [0.5]")
    text = shown()
    for part in ("smoke", "7/24", "loss [0.5]"):
        assert part in text


def test_the_cursor_comes_back_after_ctrl_c(terminal):
    stream, shown = terminal

    def interrupted():
        with reporter(stream) as chosen:
            chosen.start("smoke", 24)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "\x1b[?25l" in (text := shown())
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_pipe_gets_lines():
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, reporter(stream) as chosen:
        assert isinstance(chosen, Lines)
        chosen.start("smoke", 2)
        chosen.update(2, "loss 0.5")
    with os.fdopen(reading) as stream:
        assert stream.read() == "smoke 0/2\nsmoke 2/2 loss 0.5\n"


def test_standard_error_is_where_progress_goes(capsys):
    with reporter() as chosen:
        chosen.start("smoke", 2)
    assert capsys.readouterr() == ("", "smoke 0/2\n")


def test_silence_is_silent(capfd):
    silent = Silent()
    silent.start("smoke", 2)
    silent.update(1, "x")
    silent.say("y")
    silent.download("z", 0, 1)
    silent.close()
    assert capfd.readouterr() == ("", "")
