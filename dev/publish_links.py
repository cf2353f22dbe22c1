"""Makes the links of README.md absolute, for a package whose page lies on another site.

    python dev/publish_links.py https://github.com/OWNER/NAME COMMIT

Before a wheel is built for a package index, on a checkout that is thrown away: an index shows the
README without the files beside it. The address is not written into the README itself, so that a
fork's package shows the fork's files. It is added to the addresses in pyproject.toml, too.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def absolute(text: str, address: str, commit: str) -> str:
    """Return Markdown whose links and pictures lead to the files of a commit.

    Args:
        text: Markdown whose relative links are those of the repository's root.
        address: of the repository on its host.
        commit: name of the commit, a branch, or a tag.
    """

    def link(match: re.Match) -> str:
        kind = "raw" if match[1] else "blob"  # a picture itself, or the page that shows a file
        return f"{match[1]}[{match[2]}]({address}/{kind}/{commit}/{match[3]})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?://|#)([^)\s]+)\)", link, text)


def main() -> None:
    """Change both files in place."""
    address, commit = sys.argv[1].rstrip("/"), sys.argv[2]
    readme, project = ROOT / "README.md", ROOT / "pyproject.toml"
    text = absolute(readme.read_text(encoding="utf-8"), address, commit)
    readme.write_text(text, encoding="utf-8")
    own = "".join(
        f'{name} = "{address}{page}"\n'
        for name, page in (("Source", ""), ("Issues", "/issues"), ("Changelog", "/releases"))
    )
    head = "[project.urls]\n"
    before, found, after = project.read_text(encoding="utf-8").partition(head)
    assert found
    project.write_text(before + head + own + after, encoding="utf-8")


if __name__ == "__main__":
    main()
