"""Reports as a browser shows them: nothing overflows, loads or fails; tables sort, by a click or a key."""

import re
import shutil
from pathlib import Path

import pytest

from capsjax.reports.report import report_run
from tests.reports.chromium import BROWSER, NAMES, browser

AXE = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
PAGES = {"comparison": 14, "run": 8}  # with their pictures
LOOKS = ("light", "dark")
PAPER = 718  # pixels, of a sheet between its margins
LAYOUT = """
(async () => {
  const wide = document.documentElement.clientWidth;
  const right = element => element.getBoundingClientRect().right;
  const over = [...document.body.querySelectorAll("*")].filter(
    element => element.closest(".scroll") === null && right(element) > wide + 1);
  const boxes = [...document.querySelectorAll(".scroll:has(table)")];
  const hidden = box => box.scrollWidth - box.clientWidth > 1;
  const edges = box => [box.classList.contains("before"), box.classList.contains("after")];
  const settled = () => new Promise(done => setTimeout(done, 60));
  await settled();
  const marked = boxes.filter(box => String(edges(box)) !== String([false, hidden(box)])).length;
  const far = boxes.find(hidden);
  let atEnd = null;
  if (far) {
    far.scrollLeft = 10000;
    await settled();
    atEnd = edges(far);
    far.scrollLeft = 0;
    await settled();
  }
  const cells = [...boxes[0].querySelectorAll("tbody tr:first-child > *")];
  const lines = [...document.querySelectorAll("main .text > p")];
  return {
    wide, scroll: document.documentElement.scrollWidth,
    over: over.map(element => element.outerHTML.slice(0, 80)),
    scrolled: boxes.filter(hidden).length, marked, atEnd,
    whole: cells.filter(cell => right(cell) <= right(boxes[0]) && right(cell) <= wide).length,
    pictures: [...document.images].map(image => image.naturalWidth),
    text: Math.max(0, ...lines.map(line => right(line))),
  };
})()
"""
AUDIT = """
axe.run().then(told => {
  const contrasts = kind => told[kind].filter(one => one.id === "color-contrast").flatMap(one => one.nodes);
  return {
    violations: told.violations.map(one => [one.id, one.nodes.length, one.nodes[0].html.slice(0, 200)]),
    unsure: contrasts("incomplete").map(node => [node.any[0].data.messageKey, node.html.slice(0, 80)]),
    passed: contrasts("passes").length,
  };
})
"""
SORTED = """
(() => {
  const heading = document.querySelectorAll("thead th")[1], table = heading.closest("table");
  const column = [...table.tBodies[0].rows].map(row => parseFloat(row.cells[1].textContent));
  return [column.map(x => isNaN(x) ? null : x), heading.getAttribute("aria-sort")];
})()
"""
BUTTON = 'document.querySelectorAll("thead th")[1].querySelector("button")'
LOADED = 'performance.getEntriesByType("resource").map(one => one.name).filter(n => !n.startsWith("data:"))'
CUT = f"""
[...document.querySelectorAll(".scroll:has(table)")].filter(
  box => box.firstElementChild.getBoundingClientRect().right > {PAPER}).length
"""
WATCH = """
const opened = [...document.querySelectorAll("details")];
window.printed = [];
addEventListener("beforeprint", () => printed.push(...opened.map(one => one.open)));
"""


@pytest.fixture(scope="module")
def pages(compared, tmp_path_factory):
    """The files of both kinds of page."""
    folder = tmp_path_factory.mktemp("run") / "full-seed0"
    shutil.copytree(compared.folder / "runs" / "full-seed0", folder)
    return {"comparison": compared.page, "run": report_run(folder)[0]}


@pytest.fixture(scope="module")
def looked(pages, tmp_path_factory):
    """What one browser shows of each page in each look, which every test looks at."""
    if BROWSER is None:
        pytest.skip(f"no browser among {', '.join(NAMES)}: apt-get install chromium")
    with browser(tmp_path_factory.mktemp("browser")) as tab:
        return {(p, look): look_at(tab(), pages[p], look) for p in PAGES for look in LOOKS}


def look_at(tab, page, look):
    """Look at a page in both widths, through axe, by clicks and keys, and on paper."""
    tab.resize(1280)
    tab.show(page.as_uri(), look)
    found = {"loaded": tab.run(LOADED), "wide": tab.run(LAYOUT)}
    if AXE.exists():
        tab.run(AXE.read_text("utf-8") + "; 0")
        found["axe"] = tab.run(AUDIT)
    tab.resize(390)
    found["narrow"] = tab.run(LAYOUT)
    if AXE.exists():
        found["axe, narrow"] = tab.run(AUDIT)
    for act, ask in (
        ("click", lambda: tab.run(f"{BUTTON}.click()")),
        ("Enter", lambda: tab.press("Enter")),
        ("Space", lambda: tab.press(" ")),
    ):
        tab.run(f"{BUTTON}.focus()")
        found[act] = []
        for _ in range(2):
            ask()
            found[act].append(tab.run(SORTED))
    tab.run(WATCH)
    tab.call("Page.printToPDF")
    found["printed"] = tab.run("printed"), tab.run("opened.map(one => one.open)")
    tab.resize(PAPER)
    tab.call("Emulation.setEmulatedMedia", media="print")
    found["cut"] = tab.run(CUT)
    return found | {"logged": tab.logged}


each = pytest.mark.parametrize(("page", "look"), [(p, look) for p in PAGES for look in LOOKS])


@each
def test_nothing_is_wider_than_the_page_at_390_and_1280_pixels(looked, page, look):
    for name, width in (("narrow", 390), ("wide", 1280)):
        found = looked[page, look][name]
        assert found["over"] == []
        assert found["scroll"] <= found["wide"] == width
        assert min(found["pictures"]) > 100
        assert len(found["pictures"]) == PAGES[page]


@each
def test_tables_fit_a_screen_and_paper_and_show_where_they_scroll(looked, page, look):
    found = looked[page, look]
    narrow, wide = found["narrow"], found["wide"]
    assert wide["scrolled"] == 0 < narrow["scrolled"]
    assert wide["marked"] == narrow["marked"] == 0  # none without a mark, or with a wrong one
    assert narrow["atEnd"] == [True, False]  # more before, none after
    assert found["cut"] == 0


@each
def test_a_telephone_shows_what_matters_and_a_screen_is_used(looked, page, look):
    """The difference to the reference, with its interval, is seen without scrolling."""
    if page == "comparison":
        assert looked[page, look]["narrow"]["whole"] >= 3
    assert looked[page, look]["narrow"]["text"] <= 390
    assert looked[page, look]["wide"]["text"] > 1000  # text in two columns


@each
@pytest.mark.parametrize("by", ["click", "Enter", "Space"])
def test_a_heading_sorts_its_table(looked, page, look, by):
    (up, rising), (down, falling) = looked[page, look][by]
    assert (rising, falling) == ("ascending", "descending")
    numbers = sorted(x for x in up if x is not None)
    none = [None] * (len(up) - len(numbers))  # what is no number stays last
    assert up == numbers + none
    assert down == numbers[::-1] + none
    assert len(set(up)) > 1


@each
def test_nothing_is_asked_of_the_network_and_no_error_is_logged(looked, pages, page, look):
    assert looked[page, look]["loaded"] == []
    assert looked[page, look]["logged"] == []
    text = pages[page].read_text("utf-8")
    assert not re.search(r"https?://", re.sub(r"base64,\S+", "", text))


@each
def test_the_configuration_is_folded_on_a_screen_and_printed_whole(looked, page, look):
    printed, after = looked[page, look]["printed"]
    assert printed == [True]
    assert after == [False]


@each
def test_axe_finds_nothing_to_object_to(looked, page, look):
    """Nor is it unsure of a contrast, as where words lie on a gradient."""
    if not AXE.exists():
        pytest.skip(f"no axe-core at {AXE}: make axe")
    found, narrow = looked[page, look]["axe"], looked[page, look]["axe, narrow"]
    assert found["violations"] == narrow["violations"] == []
    assert found["unsure"] == []
    assert found["passed"] > 50
    # On a telephone a part of a table is not in sight, which axe passes no judgement on.
    assert {why for why, _ in narrow["unsure"]} <= {"elmPartiallyObscured", "shortTextContent"}
