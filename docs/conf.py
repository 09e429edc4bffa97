"""Sphinx configuration: `sphinx-build -W docs docs/_build/html`."""

import mplinalg

project = "mplinalg"
author = "The mplinalg developers"
copyright = f"2026, {author}"
version = release = mplinalg.__version__

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.mathjax"]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
default_role = "autolink"

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the Parameters sections say more
numpydoc_show_class_members = False
suppress_warnings = ["ref.citation", "ref.footnote"]  # not every reference is cited in the text

html_theme = "alabaster"
html_theme_options = {
    "description": "Low-precision factorizations, double-precision answers",
    "fixed_sidebar": True,
    "page_width": "70rem",
}
