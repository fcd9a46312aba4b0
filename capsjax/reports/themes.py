"""How figures and pages look: one colour and one marker for each mode, on light and on dark pages."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import matplotlib


class Theme(NamedTuple):
    """Hold the colours of a figure.

    Attributes:
        name: "light" or "dark".
        page: what it is drawn on.
        ink: lines and words.
        muted: what stays in the background; at least 3 to 1 against the page.
        wrong: of a wrong answer.
        modes: the colour of each mode.
        others: colours for what is not a mode that is known here.
    """

    name: str
    page: str
    ink: str
    muted: str
    wrong: str
    modes: dict[str, str]
    others: tuple[str, ...]

    def of(self, mode: str) -> str:
        """Return the colour that a mode has in every figure and on every page.

        Arms that are no modes are called "#0", "#1" and so on, and have the colours in turn.
        """
        every = (*self.modes.values(), *self.others)
        if mode.startswith("#"):
            return every[int(mode[1:]) % len(every)]
        # By the letters of its name, so that an unknown mode has one colour on every page.
        unknown = self.others[sum(map(ord, mode)) % len(self.others)]
        return self.modes.get(mode, unknown)

    def name_of(self, place: int) -> str:
        """Return the mode that has the colour of "#<place>"; "" if none has."""
        return dict(enumerate(self.modes)).get(place % (len(self.modes) + len(self.others)), "")


# The first three of the light ones are Paul Tol's "bright" colours, which stay apart for colour-blind
# readers; every colour has at least 3 to 1 against its page, and each mode a marker of its own.
LIGHT = Theme(
    name="light",
    page="#ffffff",
    ink="#222222",
    muted="#767676",
    wrong="#b3261e",
    modes={
        "stop": "#4477aa",
        "full": "#aa3377",
        "uniform": "#228833",
        "truncated": "#b3661a",
        "closed_form": "#6a51a3",
        "implicit": "#0b7f86",
    },
    others=("#5c6670", "#8c564b", "#a08000"),
)
DARK = Theme(
    name="dark",
    page="#16181c",
    ink="#e6e6e6",
    muted="#9a9a9a",
    wrong="#ff8a7a",
    modes={
        "stop": "#7ab0e6",
        "full": "#f08bc0",
        "uniform": "#6fcf7c",
        "truncated": "#f0a860",
        "closed_form": "#b9a3f0",
        "implicit": "#5fd0d6",
    },
    others=("#b4bcc4", "#d9a491", "#d9c25f"),
)
MARKERS = {
    "stop": "s",
    "full": "o",
    "uniform": "^",
    "truncated": "D",
    "closed_form": "P",
    "implicit": "v",
}


def marker_of(mode: str, other: str = "o") -> str:
    """Return the marker of a mode, or of an arm that is none, as `Theme.of` has its colour.

    Args:
        mode: as `Theme.of` takes it.
        other: the marker of a mode that is not known here.

    Returns:
        As matplotlib calls it.
    """
    if mode.startswith("#"):
        every = (*MARKERS.values(), "X", "p", "*")
        return every[int(mode[1:]) % len(every)]
    return MARKERS.get(mode, other)


MODE_COLOURS = LIGHT.modes


@contextlib.contextmanager
def drawn_with(theme: Theme) -> Iterator[None]:
    """Draw with the colours of a look; files are the same to the byte each time."""
    ink = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"),
        theme.ink,
    )
    page = dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), theme.page)
    lines = {"axes.edgecolor": theme.muted, "grid.color": theme.muted, "hatch.color": theme.page}
    # A fixed salt for the ids within an SVG, and letters as outlines: no font has to be there.
    files = {"svg.hashsalt": "capsjax", "svg.fonttype": "path", "pdf.fonttype": 42}
    with matplotlib.rc_context(ink | page | lines | files):
        yield
