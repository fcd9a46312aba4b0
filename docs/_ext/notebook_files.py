"""Every notebook is offered as a file for Jupyter; kernels run without the reader's own settings."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import jupytext
from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# Each kernel warns that what it sends over this machine's own network is not encrypted.
QUIET = "c.IPKernelApp.log_level = 40\n"


def settle_kernels(app: "Sphinx") -> None:
    """Give kernels a folder of settings that belongs to the build."""
    profile = Path(app.doctreedir) / "ipython" / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    (profile / "ipython_kernel_config.py").write_text(QUIET, encoding="utf-8")
    os.environ["IPYTHONDIR"] = str(profile.parent)


def offer(app: "Sphinx", document: nodes.document) -> None:
    """Put a link to the file below the title of a notebook."""
    name = app.env.docname
    if not name.startswith("notebooks/"):
        return
    title = next(document.findall(nodes.title))
    up = "../" * name.count("/")
    reference = nodes.reference(
        "", f"Download {Path(name).name}.ipynb", refuri=f"{up}_notebooks/{Path(name).name}.ipynb"
    )
    words = nodes.paragraph("", "", reference, nodes.Text(", to run it yourself."))
    title.parent.insert(1, words)


def write(app: "Sphinx", exception: Exception | None) -> None:
    """Write the files beside the site's pages."""
    if exception is None and app.builder.format == "html":
        folder = Path(app.outdir) / "_notebooks"
        folder.mkdir(exist_ok=True)
        for page in sorted((Path(app.srcdir) / "notebooks").glob("*.md")):
            (folder / f"{page.stem}.ipynb").write_text(as_ipynb(page), encoding="utf-8")


def as_ipynb(page: Path) -> str:
    """Return a page as a notebook of Jupyter's, without outputs."""
    notebook = jupytext.reads(page.read_text("utf-8"), fmt="md:myst")
    return jupytext.writes(notebook, fmt="ipynb")


def setup(app: "Sphinx") -> dict[str, bool]:
    """Attach to Sphinx."""
    app.connect("builder-inited", settle_kernels)
    app.connect("doctree-read", offer)
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
