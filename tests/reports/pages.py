"""What reports' pages and pictures are held to."""

import base64
import html.parser
import io
import re
import xml.etree.ElementTree as ET

import matplotlib.image
import numpy as np

EMBEDDED = "data:image/svg+xml;base64,"


class Page(html.parser.HTMLParser):
    """Collect tags, what they point to, and the cells of tables."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.sources, self.cells, self.row = [], [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        loads = ("src", "srcset", "href", "action", "data")
        self.sources += [value for name, value in attrs if name in loads]
        if tag == "tr":
            self.cells.append([])
        self.row = tag in ("td", "th")

    def handle_data(self, data):
        if self.row:
            self.cells[-1].append(data)

    def handle_endtag(self, tag):
        self.row = False


def check_picture(content, least=(300, 600)):
    """A picture is large enough, has colours, and is not mostly of one."""
    pixels = matplotlib.image.imread(io.BytesIO(content))[..., :3]
    assert pixels.shape[0] >= least[0]
    assert pixels.shape[1] >= least[1]
    some = (pixels[::3, ::3] * 255).astype(int).reshape(-1, 3)
    assert len({tuple(colour) for colour in some.tolist()}) > 50
    assert 0.01 < np.mean(pixels.min(-1) < 0.95) < 0.9


def check_alone(path, pictures):
    """A page points to nothing but pictures that are in it, each drawn for light and for dark pages."""
    text = path.read_text("utf-8")
    page = Page(text)
    assert not {"link", "iframe", "object"} & set(page.tags)
    assert [found for tag, found in page.attributes if tag == "script"] == [
        {}
    ]  # written in the page
    links = [found["href"] for tag, found in page.attributes if tag == "a"]
    assert all((path.parent / link).is_file() for link in links)  # and loaded by a click alone
    sources = [source for source in page.sources if source not in links]
    assert all(source.startswith(EMBEDDED) for source in sources)
    assert not re.search(
        r"https?://|url\(|@import|fetch\(|XMLHttp", re.sub(r"base64,\S+", "", text)
    )
    assert page.tags.count("img") == pictures
    assert len(set(sources)) == len(sources) == 2 * pictures
    for source in sources:
        drawn = ET.fromstring(base64.b64decode(source.removeprefix(EMBEDDED)))
        assert drawn.tag.endswith("svg")
        assert len(list(drawn.iter("{http://www.w3.org/2000/svg}path"))) > 10 or list(
            drawn.iter("{http://www.w3.org/2000/svg}image")
        )
    check_accessible(page)
    return page


def check_accessible(page):
    """A page says its language and width, has landmarks and headings, and words for each picture."""
    assert ("html", {"lang": "en"}) in page.attributes
    content = "width=device-width, initial-scale=1"
    assert ("meta", {"name": "viewport", "content": content}) in page.attributes
    for tag in ("title", "header", "main", "footer", "h1"):
        assert page.tags.count(tag) == 1
    assert page.tags.count("h2") >= 4
    alts = [found["alt"] for tag, found in page.attributes if tag == "img"]
    assert all(len(alt) > 30 for alt in alts)
    assert len(set(alts)) == len(alts)
    # Wide tables and code scroll in a box of their own, which the keyboard reaches.
    boxes = [found for tag, found in page.attributes if "scroll" in found.get("class", "").split()]
    assert len(boxes) == page.tags.count("table") + page.tags.count("pre")
    assert all(box["tabindex"] == "0" and box["aria-label"] for box in boxes)
    assert all("scope" in found for tag, found in page.attributes if tag == "th")
