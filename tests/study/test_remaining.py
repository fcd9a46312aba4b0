"""The time that a comparison still takes: at the pace of the runs so far, on a clock of the test's."""

import pytest

from capsjax.progress import Silent
from capsjax.study.remaining import SequentialProgress, duration


class Heard(Silent):
    """Keep what is told."""

    def __init__(self):
        self.told = []

    def update(self, done, note=""):
        self.told.append(note)

    def say(self, line):
        self.told.append(line)


def test_what_is_left_follows_from_the_pace_so_far():
    heard, now = Heard(), [1000.0]
    whole = SequentialProgress(heard, 4, clock=lambda: now[0])
    whole.start("reading", 2)
    whole.update(1, "data")  # of no run
    whole.begin("stop-seed0")
    whole.start("stop-seed0", 100)
    whole.update(0, "loss 1")
    now[0] += 59
    whole.update(1, "loss 0.9")  # compiled, and too early to say
    now[0] += 1
    whole.update(50, "loss 0.5")  # an eighth in 60 s: 7 are left
    now[0] += 60
    whole.update(100)
    whole.end("1/4 stop")
    whole.begin("full-seed0")
    whole.start("full-seed0", 100)
    now[0] += 180  # the second is slower
    whole.update(100, "loss 0.1")
    for place in (2, 3, 4):
        whole.end(f"{place}/4")
    assert heard.told == [
        "data",
        "loss 1",
        "loss 0.9",
        "loss 0.5, 7 min left in all",
        "6 min left in all",
        "1/4 stop, 6 min left in all",
        "loss 0.1, 5 min left in all",
        "2/4, 5 min left in all",
        "3/4, 2 min left in all",
        "4/4",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (89, "89 s"),
        (91, "2 min"),
        (3570, "1 h 0 min"),
        (12000, "3 h 20 min"),
        (97200, "1 d 3 h"),
    ],
)
def test_a_duration_is_written_in_two_units(seconds, text):
    assert duration(seconds) == text
