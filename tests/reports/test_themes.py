"""Colours mean modes alone, and are seen on their pages."""

import itertools

import pytest

from capsjax.reports.themes import DARK, LIGHT, MARKERS

MODES = ("uniform", "stop", "truncated", "full")


def luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """The ratio of WCAG 2.2."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_everything_is_seen_on_its_page(theme):
    for colour in (*theme.modes.values(), *theme.others, theme.muted):
        assert contrast(colour, theme.page) >= 3
    for colour in (theme.ink, theme.wrong):
        assert contrast(colour, theme.page) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_every_mode_has_a_colour_and_a_marker_of_its_own(theme):
    assert set(MODES) <= set(theme.modes)
    assert set(theme.modes) == set(MARKERS) == set(LIGHT.modes)
    assert len(set(MARKERS.values())) == len(MARKERS)
    for one, other in itertools.combinations((*theme.modes.values(), *theme.others), 2):
        assert one != other
    assert theme.of("stop") == theme.modes["stop"]
    assert theme.of("something new") in theme.others
