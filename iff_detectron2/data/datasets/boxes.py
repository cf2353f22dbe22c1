"""What happens to boxes that leave the image or have no area."""

from __future__ import annotations

import logging
import math
from collections import Counter
from dataclasses import dataclass, field

Box = tuple[float, float, float, float]


def around_rotated(x: float, y: float, width: float, height: float, degrees: float) -> Box:
    """Return the upright box around a box that is turned about its centre.

    Args:
        x: centre, in pixels.
        y: centre, in pixels.
        width: before it is turned, in pixels.
        height: before it is turned, in pixels.
        degrees: of the turn; its direction does not matter.
    """
    sine, cosine = abs(math.sin(math.radians(degrees))), abs(math.cos(math.radians(degrees)))
    half_width = (width * cosine + height * sine) / 2
    half_height = (width * sine + height * cosine) / 2
    return x - half_width, y - half_height, x + half_width, y + half_height


@dataclass
class BoxCheck:
    """Clips boxes to their image and remembers what it had to change, for one message in the end.

    One bad box must not stop a dataset of a million: a box that is partly outside is clipped, one
    that is wholly outside or inverted (x2 < x1 or y2 < y1) is dropped.

    Attributes:
        dataset: name for the warning.
        clipped: number of clipped boxes.
        dropped: number of dropped boxes.
        left_out: number of things that the dataset has no use for, by what they are.
    """

    dataset: str
    clipped: int = 0
    dropped: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    _first: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, box: Box, width: int, height: int, place: str, *, no_area: bool = False
    ) -> Box | None:
        """Clip one box.

        Args:
            box: x1, y1, x2, y2 in pixels.
            width: width of the image in pixels.
            height: height of the image in pixels.
            place: file, and line where there is one, for the warning.
            no_area: drop boxes with x1 = x2 or y1 = y2 too, where corners are not ILSVRC's.

        Returns:
            The box inside [0, width] x [0, height], or None if it is to be dropped.
        """
        x1, y1, x2, y2 = box
        clipped = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
        inverted = x2 < x1 or y2 < y1 or (no_area and (x2 == x1 or y2 == y1))
        outside = x1 >= width or y1 >= height or x2 < 0 or y2 < 0
        # A box written with x1 = x2 is one pixel wide by ILSVRC's inclusive corners, so only
        # clipping may make a box empty here.
        emptied = (clipped[2] <= clipped[0] and x2 > x1) or (clipped[3] <= clipped[1] and y2 > y1)
        if inverted or outside or emptied:
            self.drop(place)
            return None
        if clipped != box:
            self.clipped += 1
            self._first.setdefault("clipped", place)
        return clipped

    def drop(self, place: str) -> None:
        """Count a box that the caller drops itself."""
        self.dropped += 1
        self._first.setdefault("dropped", place)

    def leave_out(self, what: str, place: str) -> None:
        """Count something that the caller leaves out; `what` is a plural, such as "lines of x"."""
        self.left_out[what] += 1
        self._first.setdefault(what, place)

    def warn(self) -> None:
        """Log one warning if any box was changed, and by reason what was left out."""
        logger = logging.getLogger(__name__)
        for what, count in self.left_out.items():
            first = self._first[what]
            logger.info("%s: left out %d %s (first in %s)", self.dataset, count, what, first)
        parts = []
        if self.clipped:
            parts.append(
                f"{self.clipped} boxes reached out of their image and were clipped "
                f"(first in {self._first['clipped']})"
            )
        if self.dropped:
            parts.append(
                f"{self.dropped} boxes without area or outside their image were dropped "
                f"(first in {self._first['dropped']})"
            )
        if parts:
            logger.warning("%s: %s", self.dataset, "; ".join(parts))
