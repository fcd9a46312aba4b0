"""A report as a browser shows it: nothing overflows, loads or fails; tables sort."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
WIDTHS = (390, 1280)
LOOK = """
async function look() {
  const seen = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const page = frame.contentDocument, root = page.documentElement, wide = root.clientWidth;
    const boxed = element => element.closest(".scroll") !== null;
    const over = [...page.body.querySelectorAll("*")].filter(
      element => !boxed(element) && element.getBoundingClientRect().right > wide + 1);
    const heading = page.querySelectorAll("thead th")[1], table = heading.closest("table");
    const column = () => [...table.tBodies[0].rows].map(row => parseFloat(row.cells[1].textContent));
    heading.querySelector("button").click();
    const rising = [column(), heading.getAttribute("aria-sort")];
    heading.querySelector("button").click();
    const falling = [column(), heading.getAttribute("aria-sort")];
    const loaded = frame.contentWindow.performance.getEntriesByType("resource").map(one => one.name);
    const pictures = [...page.images].map(image => image.naturalWidth);
    seen[frame.width] = {
      wide, scroll: root.scrollWidth, over: over.map(element => element.outerHTML.slice(0, 80)),
      rising, falling, pictures, loaded: loaded.filter(name => !name.startsWith("data:")),
    };
    const boxes = [...page.querySelectorAll(".scroll:has(table)")];
    seen[frame.width].scrolled = boxes.filter(box => box.scrollWidth > box.clientWidth).length;
    seen[frame.width].shaded = boxes.every(
      box => getComputedStyle(box).backgroundAttachment === "local, local, scroll, scroll");
    const axe = document.getElementById("axe");
    if (axe) {
      const script = page.createElement("script");
      script.textContent = axe.textContent;
      page.head.append(script);
      const found = await frame.contentWindow.axe.run();
      seen[frame.width].axe = found.violations.map(one => [one.id, one.nodes[0].html.slice(0, 200)]);
    }
    const found = seen[frame.width], rules = [...page.styleSheets[0].cssRules];
    for (const rule of rules) if (rule.media?.mediaText === "print") rule.media.mediaText = "all";
    frame.width = 718;  // of a sheet of paper between its margins
    found.cut = boxes.filter(box => box.firstElementChild.getBoundingClientRect().right > 718).length;
  }
  return seen;
}
addEventListener("load", () => look().catch(error => ({error: String(error)})).then(seen => {
  document.getElementById("seen").textContent = JSON.stringify(seen);
}));
"""


@pytest.fixture(scope="module")
def looked(compared, tmp_path_factory):
    """What Chromium shows of a page in two widths, and what it logged."""
    if BROWSER is None:
        pytest.skip(f"no browser among {', '.join(NAMES)}: apt-get install chromium")
    folder = tmp_path_factory.mktemp("browser")
    frames = [
        f'<iframe width="{w}" height="6000" src="{compared.page.as_uri()}"></iframe>'
        for w in WIDTHS
    ]
    axe = f"<script id=axe>{AXE.read_text('utf-8')}</script>" if AXE.exists() else ""
    # Frames of a width: a window of less than 500 pixels is not made.
    (folder / "look.html").write_text(
        f"<!doctype html><html lang=en><title>look</title>{axe}<script>{LOOK}</script>"
        f"<pre id=seen></pre>{''.join(frames)}</html>"
    )
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    options += [
        f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr",
        "--window-size=1800,900",
    ]
    options += ["--virtual-time-budget=20000", "--dump-dom"]
    options += ["--disable-background-networking", "--disable-component-update", "--no-first-run"]
    command = [BROWSER, *options, (folder / "look.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    (seen,) = re.findall(r'<pre id="seen">(.*?)</pre>', done.stdout, re.S)
    return json.loads(html.unescape(seen)), done.stderr


def test_nothing_is_wider_than_the_page_at_390_and_1280_pixels(looked):
    seen, _ = looked
    assert list(seen) == [str(width) for width in WIDTHS]
    for width, found in seen.items():
        assert found["over"] == [], width
        assert found["scroll"] <= found["wide"] <= int(width)
        assert min(found["pictures"]) > 100
        assert len(found["pictures"]) == 14


def test_tables_fit_a_screen_and_paper_and_show_where_they_scroll(looked):
    narrow, wide = looked[0].values()
    assert wide["scrolled"] == 0 < narrow["scrolled"]
    for found in (narrow, wide):
        assert found["shaded"]
        assert found["cut"] == 0


def test_a_click_on_a_heading_sorts_its_table(looked):
    for found in looked[0].values():
        (up, rising), (down, falling) = found["rising"], found["falling"]
        assert (rising, falling) == ("ascending", "descending")
        assert up == sorted(up)
        assert down == sorted(up, reverse=True)
        assert len(set(up)) > 1


def test_nothing_is_asked_of_the_network_and_no_error_is_logged(looked, compared):
    seen, logged = looked
    assert [found["loaded"] for found in seen.values()] == [[], []]
    assert "CONSOLE" not in logged
    assert not re.search(r"https?://", re.sub(r"base64,\S+", "", compared.page.read_text("utf-8")))


def test_axe_finds_nothing_to_object_to(looked):
    if not AXE.exists():
        pytest.skip(f"no axe-core at {AXE}: make axe")
    for found in looked[0].values():
        assert found["axe"] == []
