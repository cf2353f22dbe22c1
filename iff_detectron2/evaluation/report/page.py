"""The report as one HTML page: no script, nothing loaded from elsewhere, every name escaped."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from iff_detectron2 import __version__
from iff_detectron2.evaluation.error_breakdown import KINDS, NEAR_IOU
from iff_detectron2.evaluation.protocols import PROTOCOL_TITLES

from .runs import Run
from .worst_frames import FramePicture

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1060px;
       margin: 2rem auto 4rem; padding: 0 1.25rem; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p, dl { max-width: 46rem; margin: .4rem 0; } .faint { color: #666; }
table { border-collapse: collapse; margin: .8rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; border-bottom: 1px solid #e4e4e4; text-align: right; }
th { font-weight: 600; border-bottom-color: #aaa; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
img { max-width: 100%; height: auto; display: block; }
dt { font-weight: 600; float: left; clear: left; width: 8rem; } dd { margin: 0 0 .2rem 8rem; }
summary { cursor: pointer; color: #0060a0; }
.frames { display: grid; gap: 1.2rem;
          grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); }
.pairs { grid-template-columns: repeat(2, minmax(0, 1fr)); }
figure { margin: 0; } figure img { width: 100%; }
figcaption { font-size: .85rem; overflow-wrap: anywhere; }
.none { background: #f4f4f4; color: #666; padding: 2rem 1rem; font-size: .85rem; }
footer { margin-top: 3rem; font-size: .85rem; color: #666; }
"""

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class WorstFrame:
    """A frame with its pictures, one a run.

    Attributes:
        title: where it is.
        pictures: one a run.
    """

    title: str
    pictures: Sequence[FramePicture]


@dataclass
class Page:
    """Everything that the page shows.

    Attributes:
        title: what was evaluated.
        runs: one or two runs of the same dataset and protocol.
        images: PNG of every figure by its name.
        worst: the worst frames.
    """

    title: str
    runs: Sequence[Run]
    images: dict[str, bytes] = field(default_factory=dict)
    worst: Sequence[WorstFrame] = ()

    def html(self) -> str:
        """Return the page as text."""
        parts = [
            self._head(),
            _table(self._summary_headers(), self._summary_rows()),
            *(f"<p class=faint>{escape(note)}</p>" for note in self._notes()),
            self._figure("motion_bars", "mAP50 of all, slow, medium and fast objects"),
            "<h2>Average precision by class</h2>",
            self._figure("class_bars", "AP50 of every class"),
            "<details><summary>As a table</summary>",
            _table(self._class_headers(), self._class_rows()),
            "</details>",
            "<h2>Precision and recall</h2>",
            "<p>The precision that is reached at a recall or beyond it, mean over the classes.</p>",
            self._figure("range_curves", "Precision over recall by motion"),
            "<p>Class by class, with the AP50 of each run.</p>",
            self._figure("class_curves", "Precision over recall by class"),
            "<h2>Errors</h2>",
            ERRORS_TEXT,
            self._figure("error_bars", "Kinds of errors"),
            _table(["", *(escape(run.name) for run in self.runs)], self._error_rows()),
            self._figure("class_errors", "Kinds of errors by class"),
            "<h2>Scores</h2>",
            "<p>All detections by score. Where the two heaps overlap, the score does not tell "
            "right from wrong.</p>",
            self._figure("score_histograms", "Histograms of scores"),
            *self._worst_frames(),
            f"<footer>Made by iff_detectron2 {escape(__version__)}.</footer>",
        ]
        return "\n".join([*parts, "</body></html>", ""])

    def _head(self) -> str:
        result = self.runs[0].result
        boxes = int(result.ranges[0].positives.sum())
        title = escape(f"Evaluation on {self.title}")
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
            f"<p>Protocol: {escape(PROTOCOL_TITLES[result.protocol])}.</p>\n<p class=faint>"
            f"{result.num_frames:,} frames, {boxes:,} boxes to find, detections: "
            + "; ".join(f"{escape(run.name)} {run.result.num_detections:,}" for run in self.runs)
            + ".</p>"
        )

    def _summary_headers(self) -> list[str]:
        difference = ["difference"] if len(self.runs) == 2 else []
        return [
            "metric (%)",
            *(escape(run.name) for run in self.runs),
            *difference,
            "boxes",
            "share",
        ]

    def _summary_rows(self) -> Iterable[list[str]]:
        for number, first in enumerate(self.runs[0].result.ranges):
            values = [run.result.ranges[number].mean_ap for run in self.runs]
            boxes = "" if first.unavailable else f"{int(first.positives.sum()):,}"
            share = "" if math.isnan(first.share) else f"{100 * first.share:.1f} %"
            yield [escape(first.range.metric), *_values(values), boxes, share]
        for name in self.runs[0].result.extra:
            yield [escape(name), *_values([run.result.extra[name] for run in self.runs]), "", ""]

    def _notes(self) -> Iterable[str]:
        for first in self.runs[0].result.ranges:
            if first.unavailable:
                yield f"{first.range.metric} is unavailable: {first.unavailable}."

    def _class_headers(self) -> list[str]:
        ranges = [r for r in self.runs[0].result.ranges if not r.unavailable]
        names = ["AP50" + r.range.metric.removeprefix("mAP50") for r in ranges]
        columns = [
            escape(name) + (f"<br>{escape(run.name)}" if len(self.runs) > 1 else "")
            for name in names
            for run in self.runs
        ]
        return ["class", "boxes", *columns]

    def _class_rows(self) -> Iterable[list[str]]:
        result = self.runs[0].result
        for class_id, name in enumerate(result.class_names):
            values = [
                _percent(run.result.ranges[number].ap[class_id])
                for number, first in enumerate(result.ranges)
                if not first.unavailable
                for run in self.runs
            ]
            yield [escape(name), f"{int(result.ranges[0].positives[class_id]):,}", *values]

    def _error_rows(self) -> Iterable[list[str]]:
        counts = [run.errors.counts() for run in self.runs]
        for kind in (*KINDS, "missed"):
            yield [kind, *(f"{count[kind]:,}" for count in counts)]
        for wanted in (r.range for r in self.runs[0].result.ranges if r.range.name and r.share > 0):
            shares = [run.errors.missed_share(wanted) for run in self.runs]
            yield [f"missed of {escape(wanted.name)}", *(f"{_percent(s)} %" for s in shares)]

    def _figure(self, name: str, text: str) -> str:
        if name not in self.images:
            return ""
        image = self.images[name]
        # Drawn with twice the pixels that they take, for screens that have them.
        width = int.from_bytes(image[16:20], "big") // 2  # of the PNG's header
        return _image(image, "png", text, f' width="{width}"')

    def _worst_frames(self) -> Iterable[str]:
        yield "<h2>Worst frames</h2>"
        if not self.worst:
            yield "<p>No frame has an error.</p>"
            return
        first = escape(self.runs[0].name)
        yield (
            f"<p>Frames with the most errors of {first}, at most one of a video where there are "
            "enough. Green: correct; red: wrong, with the kind of error; purple: missed; dashed: "
            "the labels.</p>"
        )
        pairs = len(self.runs) > 1
        yield f'<div class="frames{" pairs" * pairs}">'
        for frame in self.worst:
            for run, picture in zip(self.runs, frame.pictures, strict=True):
                name = f"<b>{escape(run.name)}</b>: " * pairs
                if picture.picture is None:
                    shown = f"<div class=none>{escape(picture.problem)}</div>"
                else:
                    shown = _image(picture.picture, "jpeg", f"{run.name}: {frame.title}")
                yield (
                    f"<figure>{shown}<figcaption>{name}{escape(picture.summary) or 'no error'}"
                    f"<br><span class=faint>{escape(frame.title)}</span></figcaption></figure>"
                )
        yield "</div>"


ERRORS_TEXT = f"""<p>Of each class as many detections are looked at, by falling score, as it has
boxes to find, so that a perfect detector makes no error. Matches are by the ILSVRC devkit's rule
(IoU 0.5, less for small boxes), whatever the protocol above. In this order:</p>
<dl><dt>correct</dt><dd>matched to a box of its class</dd>
<dt>duplicate</dt><dd>would match a box of its class that is taken already</dd>
<dt>class</dt><dd>would match a box of another class</dd>
<dt>localisation</dt><dd>IoU of {NEAR_IOU} or more with a box of its class, but too little for a
match</dd>
<dt>background</dt><dd>none of these</dd>
<dt>missed</dt><dd>a box that none of the detections looked at is matched to</dd></dl>"""


def _table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are HTML already."""
    head = "".join(f"<th>{cell}</th>" for cell in headers)
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "\n".join([f"<table><thead><tr>{head}</tr></thead><tbody>", *lines, "</tbody></table>"])


def _values(values: Sequence[float]) -> list[str]:
    """Percentages, and the difference of the second to the first."""
    cells = [_percent(value) for value in values]
    if len(values) == 2:
        difference = 100 * (values[1] - values[0])
        cells.append("" if math.isnan(difference) else f"{difference:+.2f}")
    return cells


def _percent(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{100 * value:.2f}"


def _image(content: bytes, kind: str, text: str, more: str = "") -> str:
    data = base64.b64encode(content).decode("ascii")
    return f'<img src="data:image/{kind};base64,{data}" alt="{escape(text)}"{more}>'
