"""The site: Sphinx with furo and MyST.

Sphinx, because it reads the docstrings of the installed package itself, resolves references between
pages and code, and has a strict mode and a link checker of its own, without a plug-in for each.
"""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent / "dev"))

import reference  # noqa: E402

from iff_detectron2 import __version__  # noqa: E402

project = "iff_detectron2"
author = "the authors of iff_detectron2"
release = version = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
# Some pages are Python for people who look at them outside of the site.
source_suffix = {".md": "markdown"}

html_theme = "furo"
html_title = f"iff_detectron2 {version}"
html_static_path = []
html_show_copyright = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
copybutton_exclude = ".linenos, .gp, .go"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_use_ivar = True
napoleon_use_rtype = False
python_maximum_signature_line_length = 80
# Docstrings have `names` in single backticks.
default_role = "literal"
# What a link checker on the network need not ask again and again.
linkcheck_timeout = 20
linkcheck_anchors = False


def escape_outside_of_code(app, what, name, obj, options, lines) -> None:
    """Take *, | and trailing _ in docstrings for what they are, no markup."""
    for index, line in enumerate(lines):
        parts = re.split(r"(``.*?``|`[^`]*`|:\w+:)", line)
        parts[::2] = [re.sub(r"(\*+|\||\w_(?=\W|$))", _escaped, part) for part in parts[::2]]
        lines[index] = "".join(parts)


def _escaped(match: re.Match) -> str:
    return "".join(f"\\{c}" if c in "*|_" else c for c in match[0])


def setup(app) -> None:
    # Before napoleon, whose own markup must stay.
    app.connect("autodoc-process-docstring", escape_outside_of_code, priority=400)
    app.connect("builder-inited", lambda app: reference.write_pages(DOCS / "reference"))
