"""Charts of the page as markup: panels with axes as SVG, bars as rows that wrap on a phone.

Colours are classes `c0` to `c7`, which the page gives a colour for light and for dark. Every number
that is drawn can be read: from the points of a line, or as the `data-tip` of a bar, both of which
`page.js` shows under the pointer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

COLORS = ("#222222", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31")
FAINT = "faint"
_STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#222}.title{font-weight:600}"
    ".grid{stroke:#ddd}.axis{stroke:#888}.line{stroke:currentColor;fill:none;stroke-width:1.8}"
    ".bar{fill:currentColor;fill-opacity:.5}.faint{color:#bbb}.line.faint{stroke-width:.8}"
    + "".join(f".c{number}{{color:{color}}}" for number, color in enumerate(COLORS))
)


@dataclass(frozen=True)
class Axis:
    """One axis of a panel.

    Attributes:
        label: what is measured.
        low: value at its beginning.
        high: value at its end.
        ticks: values that are written.
        scale: a rising function of the value that is drawn, for axes that are not linear.
    """

    label: str
    low: float
    high: float
    ticks: Sequence[float]
    scale: Callable[[float], float] = float

    def share(self, value: float) -> float:
        """Return where a value is, 0 at the beginning of the axis and 1 at its end."""
        low, high = self.scale(self.low), self.scale(self.high)
        return (self.scale(value) - low) / (high - low)


@dataclass
class Panel:
    """A picture with two axes; lines and bars are added to it.

    Attributes:
        title: above the picture.
        x: axis to the right.
        y: axis upwards.
        width: in pixels, of a screen that has room.
        height: in pixels.
    """

    title: str
    x: Axis
    y: Axis
    width: int = 360
    height: int = 230
    _parts: list[Markup] = field(default_factory=list)

    _left, _right, _top, _bottom = 46, 12, 24, 38

    def _place(self, x: float, y: float) -> tuple[float, float]:
        inner = (self.width - self._left - self._right, self.height - self._top - self._bottom)
        return (
            self._left + self.x.share(x) * inner[0],
            self.height - self._bottom - self.y.share(y) * inner[1],
        )

    def line(self, name: str, xs: np.ndarray, ys: np.ndarray, color: str) -> None:
        """Add a line; values that are not a number are left out.

        Args:
            name: what is written when it is pointed at.
            xs: shape [N].
            ys: shape [N].
            color: a class.
        """
        places = [self._place(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
        points = " ".join(f"{x:.2f},{y:.2f}" for x, y in places)
        markup = '<polyline class="line {}" data-name="{}" points="{}"/>'
        self._parts.append(Markup(markup).format(color, name, points))

    def point(self, x: float, y: float, tip: str, color: str) -> None:
        """Add a point that says something.

        Args:
            x: value of the x axis.
            y: value of the y axis.
            tip: what is written when it is pointed at.
            color: a class.
        """
        place = (f"{number:.2f}" for number in self._place(x, y))
        markup = '<circle class="bar {}" cx="{}" cy="{}" r="4.5" data-tip="{}"/>'
        self._parts.append(Markup(markup).format(color, *place, tip))

    def bar(self, left: float, right: float, value: float, tip: str, color: str) -> None:
        """Add a bar that stands on the axis.

        Args:
            left: value of the x axis where it begins.
            right: where it ends.
            value: of the y axis.
            tip: what is written when it is pointed at.
            color: a class.
        """
        (x, y), (end, ground) = self._place(left, value), self._place(right, self.y.low)
        numbers = (f"{number:.2f}" for number in (x, y, max(end - x, 0), max(ground - y, 0)))
        markup = '<rect class="bar {}" x="{}" y="{}" width="{}" height="{}" data-tip="{}"/>'
        self._parts.append(Markup(markup).format(color, *numbers, tip))

    def svg(self, alone: bool = False) -> Markup:
        """Return the picture.

        Args:
            alone: for a file of its own, with colours for white paper.
        """
        left, right = self._left, self.width - self._right
        top, bottom = self._top, self.height - self._bottom
        # Where the lines are and what they measure, for the script that reads them.
        frame = f"{left} {right} {bottom} {top}"
        values = f"{self.x.low:g} {self.x.high:g} {self.y.low:g} {self.y.high:g}"
        head = Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" class="panel" viewBox="0 0 {0} {1}" '
            'role="img" aria-label="{2}" data-frame="{3}" data-values="{4}" data-x="{5}" '
            'data-y="{6}"{7}>'
        ).format(
            self.width,
            self.height,
            f"{self.title}: {self.y.label} over {self.x.label}",
            frame,
            values,
            self.x.label,
            self.y.label,
            Markup(f' width="{self.width}" height="{self.height}"') if alone else "",
        )
        style = Markup("<style>{}</style>").format(Markup(_STYLE)) if alone else ""
        return Markup("").join([head, style, *self._axes(), *self._parts, Markup("</svg>")])

    def _axes(self) -> list[Markup]:
        left, right = self._left, self.width - self._right
        top, bottom = self._top, self.height - self._bottom
        line = '<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>'
        parts = []
        for tick in self.y.ticks:
            y = f"{self._place(self.x.low, tick)[1]:.1f}"
            parts.append(Markup(line.format("grid", left, y, right, y)))
            parts.append(_text(left - 5, float(y) + 4, _tick(tick), "end"))
        for tick in self.x.ticks:
            x = f"{self._place(tick, self.y.low)[0]:.1f}"
            parts.append(Markup(line.format("grid", x, top, x, bottom)))
            parts.append(_text(float(x), bottom + 14, _tick(tick), "middle"))
        parts.append(Markup(line.format("axis", left, bottom, right, bottom)))
        middle = (top + bottom) / 2
        turned = Markup(' transform="rotate(-90 11 {0})"').format(middle)
        parts.append(_text((left + right) / 2, self.height - 6, self.x.label, "middle"))
        parts.append(_text(11, middle, self.y.label, "middle", turned))
        parts.append(_text(4, 14, self.title, "start", Markup(' class="title"')))
        return parts


def _text(x: float, y: float, text: str, anchor: str, more: Markup | str = "") -> Markup:
    markup = '<text x="{}" y="{}" text-anchor="{}"{}>{}</text>'
    return Markup(markup).format(f"{x:g}", f"{y:g}", anchor, more, text)


def _tick(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 10_000 else f"{value:g}"


@dataclass(frozen=True)
class Part:
    """A part of a bar.

    Attributes:
        value: its length, in units of the chart.
        color: a class.
        tip: what is written when it is pointed at.
    """

    value: float
    color: str
    tip: str


@dataclass(frozen=True)
class Bar:
    """A bar of parts one behind the other, and the number behind it."""

    parts: Sequence[Part]
    text: str


@dataclass(frozen=True)
class BarChart:
    """Named groups of horizontal bars.

    Attributes:
        groups: name and bars of each.
        full: value of a bar that fills its place.
    """

    groups: Sequence[tuple[str, Sequence[Bar]]]
    full: float

    def html(self) -> Markup:
        """Return the rows."""
        rows = []
        for name, bars in self.groups:
            lines = []
            for bar in bars:
                parts = [
                    Markup('<i class="bar {}" style="width:{}%" data-tip="{}"></i>').format(
                        part.color, f"{self._percent(part.value):.2f}", part.tip
                    )
                    for part in bar.parts
                ]
                markup = '<div class="track">{}<span>{}</span></div>'
                lines.append(Markup(markup).format(Markup("").join(parts), bar.text))
            markup = '<div class="name">{}</div><div>{}</div>'
            rows.append(Markup(markup).format(name, Markup("").join(lines)))
        return Markup('<div class="bars">{}</div>').format(Markup("").join(rows))

    def _percent(self, value: float) -> float:
        # A fifth is kept free for the number behind the bar.
        return 0.0 if not math.isfinite(value) else 80 * float(np.clip(value / self.full, 0, 1))


@dataclass(frozen=True)
class Chart:
    """What the page shows under a headline: panels or bars, and what the colours mean.

    Attributes:
        content: panels beside each other, or one chart of bars.
        legend: class and name of each colour; no entry where there is one alone.
        small: whether the panels are small ones.
    """

    content: Sequence[Panel] | BarChart
    legend: Sequence[tuple[str, str]] = ()
    small: bool = False

    def html(self) -> Markup:
        """Return the chart with its legend, whose entries hide and show."""
        if isinstance(self.content, BarChart):
            inner = self.content.html()
        else:
            panels = Markup("").join(panel.svg() for panel in self.content)
            size = "small" if self.small else "panels"
            inner = Markup('<div class="{}">{}</div>').format(size, panels)
        key = '<button type="button" class="key {}" aria-pressed="true">{}</button>'
        keys = Markup("").join(Markup(key).format(color, name) for color, name in self.legend)
        legend = Markup('<div class="legend">{}</div>').format(keys) if keys else Markup("")
        return Markup('<div class="chart">{}{}</div>').format(legend, inner)
