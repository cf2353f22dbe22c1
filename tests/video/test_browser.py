"""What is written plays in a browser: headless Chromium decodes it from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browser import needs_browser, title_of

from iff_detectron2.video.writer import VideoWriter

pytestmark = [pytest.mark.slow, needs_browser]

# Draws the first frame, and writes its size and mean colour into the page's title.
PAGE = """<!doctype html><title>waiting</title><video muted src="{name}"></video><script>
const video = document.querySelector("video");
video.onerror = () => document.title = JSON.stringify({{error: video.error.message}});
video.onloadeddata = () => video.currentTime = 0.05;
video.onseeked = () => {{
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0, 1, 1);
  document.title = JSON.stringify({{
    width: video.videoWidth, height: video.videoHeight, duration: video.duration,
    color: [...context.getImageData(0, 0, 1, 1).data]
  }});
}};
</script>"""


def shown(folder: Path, name: str) -> dict:
    """Return what Chromium sees of a video in a folder.

    A busy machine may not have decoded the frame when it is drawn: the page then has nothing to
    read but transparent pixels, and is opened again.
    """
    for _ in range(5):
        seen = title_of(folder, PAGE.format(name=name))
        if "error" in seen or seen["color"][3]:
            break
    return seen


@pytest.mark.parametrize(("name", "codec"), [("v.webm", ""), ("v.webm", "vp9"), ("v.mp4", "")])
def test_a_browser_shows_it(tmp_path: Path, name: str, codec: str) -> None:
    with VideoWriter(tmp_path / name, 10, codec) as video:
        for _ in range(20):
            video.write(np.full((96, 128, 3), (40, 120, 200), np.uint8))
    seen = shown(tmp_path, name)
    assert (seen["width"], seen["height"]) == (128, 96)
    assert seen["duration"] == pytest.approx(2, abs=0.2)
    assert np.abs(np.subtract(seen["color"][:3], (200, 120, 40))).max() < 12


def test_a_browser_does_not_show_mpeg_4(tmp_path: Path) -> None:
    """The test can fail: this is what used to be written."""
    with VideoWriter(tmp_path / "v.mp4", 10, "mpeg4") as video:
        video.write(np.zeros((96, 128, 3), np.uint8))
    assert "error" in shown(tmp_path, "v.mp4")
