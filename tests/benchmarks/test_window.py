"""The table of windows in the docs is that of the file."""

from __future__ import annotations

import window


def test_the_docs_show_what_the_file_holds() -> None:
    rows = window.results_file(window.CHECKOUT / "results" / "window.csv").rows()
    assert len(rows) > 1
    page = window.PAGE.read_text(encoding="utf-8")
    assert f"<!-- window -->\n{window.table(rows)}\n<!-- end of window -->" in page
