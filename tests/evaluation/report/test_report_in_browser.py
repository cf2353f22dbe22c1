"""The page in headless Chromium: fits three widths, and its script does what it says."""

from __future__ import annotations

import pytest
from browser import needs_browser, title_of
from vid_cases import load, noisy, perfect

from iff_detectron2.evaluation.report import score_run, write_report

WIDTHS = (360, 820, 1280)
# The page in frames of three widths; what is found in the first goes into the title.
PAGE = """<!doctype html><title>"waiting"</title>
{frames}
<script>
const frames = [...document.querySelectorAll("iframe")];
const errors = [];
async function look() {{
  const page = frames[0].contentDocument, inside = frames[0].contentWindow;
  const move = (target, x, y) => target.dispatchEvent(
    new inside.PointerEvent("pointermove", {{bubbles: true, clientX: x, clientY: y}}));
  const tip = page.getElementById("tip");
  const svg = page.querySelector("svg.panel");
  const box = svg.getBoundingClientRect();
  move(svg, box.left + box.width * 0.5, box.top + box.height * 0.5);
  const read = tip.innerText;
  const cell = page.querySelector(".matrix td[data-tip]");
  move(cell, 10, 10);
  const told = tip.innerText;
  const key = page.querySelector("button.key");
  key.click();
  const hidden = key.closest(".chart").querySelectorAll(".off").length;
  const tables = [...page.querySelectorAll("table.sort")];
  const table = tables.find((one) => one.rows[0].cells[0].textContent == "class");
  page.querySelector("details").open = true;
  const column = () => [...table.tBodies[0].rows].map((row) => parseFloat(row.cells[1].innerText));
  table.rows[0].cells[1].click();
  const down = column();
  table.rows[0].cells[1].click();
  const up = column();
  const video = page.querySelector("video");
  video.preload = "auto";
  video.click();
  await new Promise((done) => {{
    video.onplaying = video.onerror = done;
    setTimeout(done, 8000);
  }});
  document.title = JSON.stringify({{
    widths: frames.map((f) => [f.contentDocument.documentElement.scrollWidth, f.clientWidth]),
    read, told, hidden, down, up, duration: video.duration,
    seen: [video.videoWidth, video.videoHeight]
  }});
}}
addEventListener("load", () => look().catch((error) => {{
  document.title = JSON.stringify({{error: String(error)}});
}}));
</script>"""


@pytest.mark.slow
@needs_browser
@pytest.mark.usefixtures("clean_catalogs")
def test_the_page_in_a_browser(dicts, tmp_path):
    dataset, bad = load(dicts, noisy, ["cat", "dog"], "shown")
    dataset2, good = load(dicts, perfect, ["cat", "dog"], "shown2")
    runs = [
        score_run("a run with a rather long name for a phone", dataset, bad),
        score_run("B", dataset2, good),
    ]
    write_report(tmp_path, dataset, runs, num_worst=2)
    frames = "".join(
        f'<iframe src="report.html" style="width:{width}px;height:900px;border:0"></iframe>'
        for width in WIDTHS
    )
    seen = title_of(tmp_path, PAGE.format(frames=frames))
    assert "error" not in seen, seen
    # Nothing is wider than the page.
    assert [client for _, client in seen["widths"]] == list(WIDTHS)
    assert all(scroll <= client for scroll, client in seen["widths"]), seen["widths"]
    assert seen["read"].startswith("score 0.")
    assert "all classes: " in seen["read"]
    assert seen["told"].startswith("cat detected as cat: ")
    assert seen["hidden"] > 0
    assert seen["down"] == sorted(seen["down"], reverse=True)
    assert seen["up"] == sorted(seen["up"])
    assert seen["seen"] == [360, 240]
    assert seen["duration"] == pytest.approx(6 / 8, abs=0.2)
