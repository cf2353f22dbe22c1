"""Makes docs/tutorial_own_data.ipynb from the page of that name.

    python dev/notebook.py

The text and the blocks are the page's, so that they are written and tested once; a test tells if
the notebook is behind.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "tutorial_own_data.md"
NOTEBOOK = PAGE.with_suffix(".ipynb")
# The page is run in the checkout, the notebook is opened in its folder docs.
BEGIN = "%cd .."
# What a page cannot show: (words of a block, the cell behind it).
SHOWN = (
    ("look.png", 'from IPython.display import Image\n\nImage("my_video/look.png")'),
    (
        "iff-detectron2 predict --config-file",
        "from IPython.display import Video\n\n"
        'Video("output/my_video/clip3/annotated.webm", embed=True)',
    ),
)


def code_of(language: str, text: str) -> str | None:
    """Return what a notebook runs in place of a block; None for a block that is only shown.

    Raises:
        ValueError: the language is unknown, or a config does not begin with its file name.
    """
    if language == "python":
        return text
    if language == "bash":
        return "\n".join(f"!{line}" for line in text.replace("\\\n", " ").splitlines())
    if language == "yaml":
        name = re.match(r"# (\S+\.yaml)\n", text)
        if name is None:
            raise ValueError(f"{PAGE}: a config on the page begins with its file name")
        return f"%%writefile {name[1]}\n{text}"
    if language == "text":
        return None
    raise ValueError(f"{PAGE}: a block of {language!r} is nothing that a notebook runs")


def cell(kind: str, source: str, number: int) -> dict[str, Any]:
    """Return a cell as the format has it.

    Args:
        kind: `code` or `markdown`.
        source: its text.
        number: of the cell, from which its id is made.
    """
    made = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
    made["source"] = source.strip("\n").splitlines(keepends=True)
    return made | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def notebook(page: str) -> dict[str, Any]:
    """Return the notebook of a page, as JSON has it."""
    parts: list[tuple[str, str]] = []
    for piece in re.split(r"^(```\w+\n.*?^```$)", page, flags=re.M | re.S):
        block = re.fullmatch(r"```(\w+)\n(.*)```", piece, re.S)
        code = code_of(block[1], block[2].rstrip("\n")) if block else None
        if code is None:
            parts.append(("markdown", piece))
            continue
        parts.append(("code", code))
        parts += [("code", shown) for words, shown in SHOWN if words in code]
    parts.insert(1, ("code", BEGIN))
    cells = [(kind, text) for kind, text in parts if text.strip()]
    return {
        "cells": [cell(kind, text, number) for number, (kind, text) in enumerate(cells)],
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def main() -> None:
    made = notebook(PAGE.read_text(encoding="utf-8"))
    NOTEBOOK.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    print(NOTEBOOK)


if __name__ == "__main__":
    main()
