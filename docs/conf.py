"""Sphinx: the guides and the API pages. ``make docs`` builds them into ``build/docs``."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

project = "Evenhand"
author = "The Evenhand developers"
copyright = "2026, the Evenhand developers"  # the name that Sphinx reads
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "myst_parser"]
exclude_patterns = ["log.md"]
html_theme = "alabaster"
html_title = "Evenhand"
html_show_sourcelink = False
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = True
suppress_warnings = ["myst.xref_missing"]  # links to files outside of docs/


def write_methods_page(app: Sphinx) -> None:
    """Write ``api/methods.rst``: a section per weighting, by the files of their folder."""
    names = sorted(path.stem for path in (ROOT / "core/weighting/methods").glob("[!_]*.py"))
    page = (
        "Weightings\n==========\n\nLoad each by name: ``core.weighting.load_weighting('mgda')``.\n"
    )
    for name in names:
        page += f"\n{name}\n{'-' * len(name)}\n\n.. automodule:: core.weighting.methods.{name}\n"
        page += "   :members:\n   :show-inheritance:\n"
    (Path(app.srcdir) / "api/methods.rst").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register the generated page."""
    app.connect("builder-inited", write_methods_page)
