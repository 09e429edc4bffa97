"""Sphinx configuration: `sphinx-build -W docs docs/_build/html`."""

import mplinalg

project = "mplinalg"
author = "The mplinalg developers"
copyright = f"2026, {author}"
version = release = mplinalg.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.doctest",
    "sphinx.ext.mathjax",
]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
default_role = "autolink"

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the Parameters sections say more
numpydoc_show_class_members = False
numpydoc_validation_checks = {
    "all",
    # sections that not every object needs
    "ES01",
    "EX01",
    "SA01",
    # a parameter or result is described at the function of which it is said to be the same, with
    # the attributes of the class, or by its shape alone; tests/test_house.py looks after the rest
    "PR01",
    "PR07",
    "RT01",
    "RT02",
    "RT03",
    # a description, or the first line, may begin with a symbol and end with a formula
    "PR08",
    "PR09",
    "SS02",
}
suppress_warnings = ["ref.citation", "ref.footnote"]  # not every reference is cited in the text

# `sphinx-build -b doctest docs docs/_build/doctest` runs the examples of the reference
doctest_global_setup = """
import numpy as np
from mplinalg.testing import *
from mplinalg.testing.gallery import *
"""

html_theme = "alabaster"
html_theme_options = {
    "description": "Low-precision factorizations, double-precision answers",
    "fixed_sidebar": True,
    "page_width": "75rem",
    "body_max_width": "none",
}
