"""Draw the finding of this experiment for the README, on light and on dark pages, from its results.

    python experiments/gradient_modes/figures.py

Writes docs/images/results/gradient_modes-light.svg and -dark.svg.
"""

import argparse
from pathlib import Path

from capsjax.reports.comparison import read_comparison
from capsjax.reports.comparison_panels import comparison_panels, comparison_runs
from capsjax.reports.evidence import gather
from capsjax.reports.figures import save, together
from capsjax.reports.themes import DARK, LIGHT

HERE = Path(__file__).resolve().parent
IMAGES = HERE.parents[1] / "docs" / "images" / "results"
SHOWN = ("test_error", "norm_ratio", "cost")


def draw(results: Path, images: Path) -> list[Path]:
    """Draw the test errors, the length of the stop gradient, and the cost of a step, beside each other.

    Args:
        results: the comparison's directory.
        images: where the figures go; it is made if it is missing.

    Returns:
        The files.
    """
    found = read_comparison(results)
    drawn = comparison_panels(found, results, comparison_runs(found, results), gather(found))
    panels = {panel.name: panel for panel in drawn}
    images.mkdir(parents=True, exist_ok=True)
    return [
        save(
            together([panels[name] for name in SHOWN], 3, theme),
            images / f"gradient_modes-{theme.name}.svg",
        )
        for theme in (LIGHT, DARK)
    ]


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for path in draw(HERE / "results", IMAGES):
        print(path)
