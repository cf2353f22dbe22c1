"""What the page of the report says, for the template beside this file."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from iff_detectron2.evaluation.error_breakdown import KINDS, NEAR_IOU
from iff_detectron2.evaluation.protocols import PROTOCOL_TITLES
from iff_detectron2.evaluation.repairs import REPAIRS
from iff_detectron2.evaluation.tables import VIEWING_TITLES

from .charts import Chart
from .clips import FRAMES_PER_SECOND
from .figures import plain, shown_classes
from .runs import Run
from .worst_frames import FramePicture

HERE = Path(__file__).parent
TEMPLATE = "page.html.jinja"
MORE_IS_BETTER = ("HOTA", "IDF1")
MOST_CONFUSED = 40  # more make no readable matrix


@dataclass(frozen=True)
class WorstFrame:
    """A frame with its pictures, one per run.

    Attributes:
        title: where it is.
        pictures: one per run.
    """

    title: str
    pictures: Sequence[FramePicture]


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what it says.
        judgement: "better", "worse" or nothing, for the colour of a difference.
        tip: what is written when it is pointed at.
        share: percent of a background's strength; None for none.
    """

    text: str
    judgement: str = ""
    tip: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Table:
    """Headers and rows of a table; a row may hold texts or cells."""

    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    @classmethod
    def of(cls, headers: Sequence[str], rows: Iterable[Sequence[str | Cell]]) -> Table:
        """Make cells of texts."""
        return cls(headers, [[c if isinstance(c, Cell) else Cell(c) for c in row] for row in rows])


@dataclass
class Page:
    """Everything that the page shows.

    Attributes:
        title: what was evaluated.
        runs: one or two runs of the same dataset and protocol.
        charts: by their names.
        worst: the worst frames.
        made: how the page was made, for its foot: names and values.
    """

    title: str
    runs: Sequence[Run]
    charts: dict[str, Chart] = field(default_factory=dict)
    worst: Sequence[WorstFrame] = ()
    made: Sequence[tuple[str, str]] = ()

    def html(self) -> str:
        """Return the page as text."""
        environment = Environment(
            loader=FileSystemLoader(HERE),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=StrictUndefined,
        )
        environment.filters["base64"] = _base64
        script = (HERE / "page.js").read_text(encoding="utf-8")
        digest = hashlib.sha256(script.encode()).digest()
        result = self.runs[0].result
        boxes = int(result.ranges[0].positives.sum())
        found = "; ".join(f"{r.name} {r.result.num_detections:,}" for r in self.runs)
        return environment.get_template(TEMPLATE).render(
            title=self.title,
            protocol=PROTOCOL_TITLES[result.protocol],
            names=[run.name for run in self.runs],
            labels=self._labels(),
            counts=f"{result.num_frames:,} frames, {boxes:,} boxes to find, detections: {found}.",
            summary=Table.of(
                ["metric (%)", *self._labels(), *self._difference(), "boxes", "share"],
                self._summary_rows(),
            ),
            notes=[
                f"{r.range.metric} is unavailable: {r.unavailable}"
                for r in result.ranges
                if r.unavailable
            ],
            classes=self._classes(),
            points=self._points(),
            viewing=self._viewing(),
            errors=Table.of(["", *self._labels()], self._error_rows()),
            gains=self._gains(),
            confusion=self._confusion(),
            charts={name: chart.html() for name, chart in self.charts.items()},
            worst=self.worst,
            near_iou=NEAR_IOU,
            made=self.made,
            clip_rate=FRAMES_PER_SECOND,
            script=Markup(script),
            script_hash=f"sha256-{_base64(digest)}",
            style=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        )

    def _labels(self) -> list[str]:
        """Return what the runs are called in tables: A and B, where there are two."""
        if len(self.runs) == 1:
            return [self.runs[0].name]
        return [f"{letter}: {run.name}" for letter, run in zip("AB", self.runs, strict=True)]

    def _difference(self) -> list[str]:
        return ["B - A"] * (len(self.runs) == 2)

    def _summary_rows(self) -> Iterator[list[str | Cell]]:
        for number, first in enumerate(self.runs[0].result.ranges):
            values = [100 * run.result.ranges[number].mean_ap for run in self.runs]
            boxes = "" if first.unavailable else f"{int(first.positives.sum()):,}"
            share = "" if math.isnan(first.share) else f"{100 * first.share:.1f} %"
            yield [first.range.metric, *_compared(values, 2), boxes, share]
        for name in self.runs[0].result.extra:
            values = [100 * run.result.extra[name] for run in self.runs]
            yield [name, *_compared(values, 2), "", ""]

    def _classes(self) -> Table:
        result = self.runs[0].result
        shown = [number for number, r in enumerate(result.ranges) if not r.unavailable]
        labels = [" A", " B"] if len(self.runs) > 1 else [""]
        metrics = ["AP50" + result.ranges[n].range.metric.removeprefix("mAP50") for n in shown]
        headers = ["class", "boxes", *(metric + label for metric in metrics for label in labels)]
        rows = [
            [
                name,
                f"{int(result.ranges[0].positives[class_id]):,}",
                *(
                    _number(100 * float(run.result.ranges[n].ap[class_id]), 2)
                    for n in shown
                    for run in self.runs
                ),
            ]
            for class_id, name in enumerate(result.class_names)
        ]
        return Table.of(headers, rows)

    def _points(self) -> Table:
        columns = ("score", "F1 (%)", "precision (%)", "recall (%)")
        labels = [" A", " B"] if len(self.runs) > 1 else [""]
        rows = []
        for number, name in enumerate(("all classes", *self.runs[0].result.class_names)):
            row = [name]
            for run in self.runs:
                points = run.result.points
                point = points.overall if number == 0 else points.classes[number - 1]
                row.append(_number(point.score, 4))
                row += [_number(100 * v, 1) for v in (point.f1, point.precision, point.recall)]
            rows.append(row)
        return Table.of(["best F1 of", *(c + label for label in labels for c in columns)], rows)

    def _viewing(self) -> Table | None:
        viewings = [run.result.viewing for run in self.runs]
        values = [viewing.values for viewing in viewings if viewing is not None]
        if len(values) < len(self.runs):
            return None
        rows = [
            [
                title,
                *_compared(
                    [of.get(name, math.nan) for of in values], 4, more=name in MORE_IS_BETTER
                ),
            ]
            for name, title in VIEWING_TITLES.items()
            if any(name in of for of in values)
        ]
        return Table.of(["", *self._labels(), *self._difference()], rows)

    def _error_rows(self) -> Iterator[list[str]]:
        counts = [run.errors.counts() for run in self.runs]
        for kind in (*KINDS, "missed"):
            yield [kind, *(f"{count[kind]:,}" for count in counts)]
        for wanted in (r.range for r in self.runs[0].result.ranges if r.range.name and r.share > 0):
            shares = [100 * run.errors.missed_share(wanted) for run in self.runs]
            yield [f"missed of {wanted.name}", *(f"{_number(s, 2)} %" for s in shares)]

    def _gains(self) -> Table:
        """Return what mAP50 gains by each repair, by motion where it is known."""
        ranges = self.runs[0].gains.ranges
        heads = [
            f"{name} {label}".strip()
            for name in ranges
            for label in (["A", "B", "B\u00a0-\u00a0A"] if len(self.runs) > 1 else [""])
        ]
        rows = []
        for number, kind in enumerate(REPAIRS):
            row: list[str | Cell] = [kind]
            for column in range(len(ranges)):
                values = [100 * float(run.gains.values[number, column]) for run in self.runs]
                row += _compared(values, 2, more=False)
            rows.append(row)
        return Table.of(["dAP50 (points)", *heads], rows)

    def _confusion(self) -> list[tuple[str, Table]]:
        """Return a matrix a run; none for a single class, or too many to be read."""
        classes = shown_classes(self.runs)
        if not 2 <= len(classes) <= MOST_CONFUSED:
            return []
        names = [plain(self.runs[0].result.class_names[c], 20) for c in classes]
        tables = []
        for label, run in zip(self._labels(), self.runs, strict=True):
            order = [*classes, len(run.result.class_names)]
            counts = run.confusion[np.ix_(order, order)]
            totals = np.maximum(run.confusion[order].sum(axis=1), 1)
            rows: list[list[str | Cell]] = []
            for row, name in enumerate([*names, "no label"]):
                cells: list[str | Cell] = [name]
                for column, other in enumerate([*names, "missed"]):
                    count = int(counts[row, column])
                    share = 100 * count / totals[row]
                    tip = f"{name} detected as {other}: {count:,}, {share:.1f} %"
                    if row == len(names):
                        cells.append(Cell(f"{count:,}" if count else "", tip=tip))
                    else:
                        cells.append(Cell(f"{share:.0f}" if count else "", "", tip, share))
                rows.append(cells)
            tables.append((label, Table.of(["label", *names, "missed"], rows)))
        return tables


def _compared(values: Sequence[float], digits: int, more: bool = True) -> list[str | Cell]:
    """Return the values, and of two the difference, coloured by which way is better."""
    cells: list[str | Cell] = [_number(value, digits) for value in values]
    if len(values) == 2:
        difference = values[1] - values[0]
        if math.isnan(difference):
            return [*cells, ""]
        text = f"{difference:+.{digits}f}"
        same = float(text) == 0
        text = f"{0:.{digits}f}" if same else text
        judgement = "" if same else "better" if (difference > 0) == more else "worse"
        cells.append(Cell(text, judgement))
    return cells


def _number(value: float, digits: int) -> str:
    return "n/a" if math.isnan(value) else f"{value:.{digits}f}"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
