"""A click on a figure opens all of it."""

import posixpath
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator


def visit(self: "HTML5Translator", node: nodes.image) -> None:
    """Open a link to the picture, where it is in none already."""
    node["enlarged"] = not isinstance(node.parent, nodes.reference)
    if node["enlarged"]:
        images = self.builder.images
        name = images.get(node["uri"])
        where = node["uri"] if name is None else posixpath.join(self.builder.imgpath, name)
        self.body.append(f'<a class="enlarge" href="{self.attval(where)}">')
    self.__class__.visit_image(self, node)


def depart(self: "HTML5Translator", node: nodes.image) -> None:
    """Close it."""
    self.__class__.depart_image(self, node)
    if node["enlarged"]:
        self.body.append("</a>")


def setup(app: "Sphinx") -> dict[str, bool]:
    """Attach to Sphinx."""
    app.add_node(nodes.image, override=True, html=(visit, depart))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
