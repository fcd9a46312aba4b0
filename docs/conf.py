"""How the documentation is built: see https://www.sphinx-doc.org/en/master/usage/configuration.html."""

import os
import sys
from pathlib import Path

from pygments.lexers.special import TextLexer
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))
os.environ.setdefault("JAX_PLATFORMS", "cpu")

from capsjax import __version__

project = "capsjax"
author = "The capsjax authors"
release = version = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "sphinx-mathjax-offline",
    "sphinxcontrib.bibtex",
    "annotations",  # these seven are in _ext/
    "docstrings",
    "enlarge",
    "notebook_files",
    "offline",
    "public_names",
    "repository_links",
]
exclude_patterns = ["_build"]
nitpicky = True
nitpick_ignore_regex = [
    # What other packages document cannot be looked up without network.
    ("py:.*", r"(jax|jaxlib|jaxtyping|numpy|np|flax|nnx|optax|pathlib|collections|typing|os)\..*"),
    # Python's own types, the array type, and type variables.
    (
        "py:class",
        r"[a-z]+|None|Any|Array|ArrayTree|PyTree|(capsjax\.routing\.base\.)?(Inputs|State)",
    ),
    ("py:class", r"capsjax\.(layers\.routings\.T|schema\.named\.T)"),
    # What a run or a data set is made of inside, which nobody has to name.
    (
        "py:class",
        r"capsjax\.(training\.(loop\.CompiledSteps|feed\.TrainFeed)|data\.mnist\.Published)",
    ),
]

# Pages and notebooks.
myst_enable_extensions = ["amsmath", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 300  # seconds a cell, on a machine that does other things too
nb_merge_streams = True  # what a cell prints stays in one piece
nb_ipywidgets_js = {}
bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"
bibtex_reference_style = "author_year"

# The reference: what docstrings say, under the names that users import.
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Reference"]
napoleon_attr_annotations = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
add_module_names = False

html_theme = "sphinx_book_theme"
html_title = f"capsjax {release}"
html_static_path = ["_static"]
html_css_files = ["capsjax.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navbar_persistent": [],  # the sidebar has the search already
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
}


def setup(app: Sphinx) -> None:
    """Attach to Sphinx: GitHub draws the picture of the rooms, a page without network shows its text."""
    app.add_lexer("mermaid", TextLexer)
