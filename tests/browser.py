"""Headless Chromium: opens a page from a file and says what the page made its title."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no chromium (Debian: apt-get install it)"
)


def title_of(folder: Path, page: str) -> Any:
    """Open a page of that text, and return its title, which is JSON.

    Args:
        folder: where the page is written, beside what it shows.
        page: its HTML.
    """
    (folder / "page.html").write_text(page, encoding="utf-8")
    flags = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        "--allow-file-access-from-files",
        "--virtual-time-budget=20000",
        f"--user-data-dir={folder / 'profile'}",
    ]
    assert CHROMIUM
    done = subprocess.run(
        [CHROMIUM, *flags, "--dump-dom", f"file://{folder / 'page.html'}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stdout
    return json.loads(html.unescape(title[1]))
