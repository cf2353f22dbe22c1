"""The alignment panel: what feature flow does to each neighbour, as in Fig. 6 of the paper."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from iff_detectron2.structures import Detections
from iff_detectron2.structures.image import check_bgr_image

from .drawing import draw_detections
from .flow_colors import color_wheel_legend, flow_magnitude, flow_to_color
from .image import WHITE, draw_tag, draw_text, resize, tag_size, text_size

_DARK = (40, 40, 40)
_GREY = (110, 110, 110)


@dataclass(frozen=True)
class AlignmentRow:
    """One neighbour of one key frame: a row of the panel.

    Attributes:
        key_frame: uint8 BGR [H, W, 3].
        ref_frame: the neighbour, of the size of the key frame.
        offset: index of the neighbour minus index of the key frame.
        flow: displacements from the key frame to the neighbour, [2, h, w], in cells.
        feature: feature map of the neighbour [C, h, w], or its energy [h, w].
        weight: aggregation weight of the neighbour at each cell [h, w], between 0 and 1.
        detections: of the key frame, in pixels of the frame.
        gt_boxes: ground truth of the key frame [M, 4].
        name: written on the key frame, such as its video and number.
        map_extent: height and width that the maps cover, in pixels of the frame; more than the
            frame where the network's input was padded at the right and the bottom. By default
            the maps cover the frame.
    """

    key_frame: np.ndarray
    ref_frame: np.ndarray
    offset: int
    flow: np.ndarray
    feature: np.ndarray
    weight: np.ndarray | None = None
    detections: Detections | None = None
    gt_boxes: np.ndarray | None = None
    name: str = ""
    map_extent: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_bgr_image(self.key_frame, "the key frame")
        check_bgr_image(self.ref_frame, "the neighbour")
        if self.ref_frame.shape != self.key_frame.shape:
            raise ValueError(
                f"the key frame {list(self.key_frame.shape)} and its neighbour "
                f"{list(self.ref_frame.shape)} must have one size"
            )
        if np.ndim(self.flow) != 3 or np.shape(self.flow)[0] != 2 or np.size(self.flow) == 0:
            raise ValueError(f"flow must have shape [2, h, w], got {list(np.shape(self.flow))}")
        cells = np.shape(self.flow)[1:]
        if np.ndim(self.feature) not in (2, 3) or np.shape(self.feature)[-2:] != cells:
            raise ValueError(
                f"feature must have shape [C, {cells[0]}, {cells[1]}] or {list(cells)} to go with "
                f"the flow, got {list(np.shape(self.feature))}"
            )
        if self.weight is not None and np.shape(self.weight) != cells:
            raise ValueError(
                f"weight must have shape {list(cells)} to go with the flow, "
                f"got {list(np.shape(self.weight))}"
            )
        for name in ("flow", "feature", "weight"):
            if getattr(self, name) is not None and not np.isfinite(getattr(self, name)).all():
                raise ValueError(f"{name} of the neighbour at {self.offset:+d} is not finite")
        # One pixel of grace: the frame's own size may come from rounding.
        if self.map_extent is not None and not all(
            extent >= side - 1
            for extent, side in zip(self.map_extent, self.key_frame.shape[:2], strict=True)
        ):
            raise ValueError(
                f"map_extent {self.map_extent} is smaller than the frame "
                f"{self.key_frame.shape[:2]}; give the height and width that the maps cover"
            )

    @property
    def extent(self) -> tuple[float, float]:
        """Height and width that the maps cover, in pixels of the frame."""
        height, width = self.key_frame.shape[:2]
        return self.map_extent or (float(height), float(width))

    def flow_in_pixels(self) -> np.ndarray:
        """Return the flow [2, h, w] in pixels of the frame."""
        flow = np.asarray(self.flow, dtype=np.float32)
        height, width = self.extent
        return flow * np.array(
            [width / flow.shape[2], height / flow.shape[1]], dtype=np.float32
        ).reshape(2, 1, 1)


def feature_energy(feature: np.ndarray) -> np.ndarray:
    """Sum over the channels of |feature| of a map [C, h, w], as float32 [h, w]."""
    values = np.abs(np.asarray(feature, dtype=np.float32))
    return values.sum(axis=0) if values.ndim == 3 else values


def alignment_panel(
    rows: Sequence[AlignmentRow],
    class_names: Sequence[str] | None = None,
    *,
    tile_size: int = 320,
    max_displacement: float | None = None,
    score_threshold: float = 0.0,
    title: str = "",
) -> np.ndarray:
    """Lay out one row per neighbour: frame, neighbour, energy, flow, weight, detections.

    The flow points from a place in the key frame to where the same thing is in the neighbour. Its
    longest displacement in pixels of the frame stands in its picture, next to the colour wheel.
    The column of weights is left out if no row has them, and so is that of detections.

    Args:
        rows: rows may differ in frame size and aspect.
        class_names: names by class number.
        tile_size: longer side of a picture in pixels of the panel.
        max_displacement: displacement in full colour, in pixels of the frame; by default the
            longest of each row, so that small motion is seen, too.
        score_threshold: detections with a lower score are not drawn.
        title: written above the heads of the columns.

    Returns:
        uint8 BGR image.

    Raises:
        ValueError: if there is no row, or the tile size is under 64.
    """
    if not rows:
        raise ValueError("an alignment panel needs at least one row; got none")
    if tile_size < 64:
        raise ValueError(f"tile_size must be at least 64 pixels, got {tile_size}")
    font_size = int(np.clip(tile_size / 20, 11, 28))

    columns: list[tuple[str, Callable[[AlignmentRow], np.ndarray]]] = [
        ("key frame", lambda row: _frame_tile(row.key_frame, row.name, tile_size, font_size)),
        (
            "neighbour",
            lambda row: _frame_tile(row.ref_frame, _offset_text(row.offset), tile_size, font_size),
        ),
        ("feature energy", lambda row: _energy_tile(row, tile_size)),
        ("feature flow", lambda row: _flow_tile(row, tile_size, font_size, max_displacement)),
    ]
    if any(row.weight is not None for row in rows):
        columns.append(("weight", lambda row: _weight_tile(row, tile_size, font_size)))
    if any(row.detections is not None for row in rows):
        columns.append(
            (
                "detections",
                lambda row: _detection_tile(
                    row, tile_size, font_size, class_names, score_threshold
                ),
            )
        )
    tiles = [[make(row) for _, make in columns] for row in rows]
    return _lay_out(tiles, [head for head, _ in columns], title, font_size)


def _offset_text(offset: int) -> str:
    return f"t{offset:+d}".replace("-", "\N{MINUS SIGN}")


def _lay_out(
    tiles: list[list[np.ndarray]], heads: list[str], title: str, font_size: int
) -> np.ndarray:
    gap = max(4, font_size // 2)
    line = text_size("", font_size)[1] + gap
    widths = [
        max(text_size(head, font_size, bold=True)[0], *(row[i].shape[1] for row in tiles))
        for i, head in enumerate(heads)
    ]
    heights = [row[0].shape[0] for row in tiles]
    top = gap + (line if title else 0) + line
    width = max(
        sum(widths) + gap * (len(widths) + 1),
        text_size(title, font_size)[0] + 2 * gap if title else 0,
    )
    panel = np.full((top + sum(heights) + gap * len(heights), width, 3), 255, np.uint8)
    if title:
        draw_text(panel, title, gap, gap, font_size, _GREY)
    x = gap
    for i, head in enumerate(heads):
        indent = (widths[i] - text_size(head, font_size, bold=True)[0]) // 2
        draw_text(panel, head, x + indent, top - line, font_size, _DARK, bold=True)
        y = top
        for row, height in zip(tiles, heights, strict=True):
            left = x + (widths[i] - row[i].shape[1]) // 2
            panel[y : y + height, left : left + row[i].shape[1]] = row[i]
            y += height + gap
        x += widths[i] + gap
    return panel


def _tile_shape(row_frame: np.ndarray, tile_size: int) -> tuple[int, int]:
    height, width = row_frame.shape[:2]
    scale = tile_size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _frame_tile(frame: np.ndarray, name: str, tile_size: int, font_size: int) -> np.ndarray:
    height, width = _tile_shape(frame, tile_size)
    tile = resize(frame, width, height)
    if name:
        draw_tag(tile, name, 0, 0, font_size, _DARK)
    return tile


def _map_to_tile(values: np.ndarray, row: AlignmentRow, tile_size: int) -> np.ndarray:
    """Resample a map [h, w] to the tile, each cell centre at its place in the frame."""
    height, width = _tile_shape(row.key_frame, tile_size)
    extent_y, extent_x = row.extent
    # Cells per pixel of the tile; OpenCV's maps hold coordinates of cell centres.
    step_y = values.shape[0] / extent_y * row.key_frame.shape[0] / height
    step_x = values.shape[1] / extent_x * row.key_frame.shape[1] / width
    y = ((np.arange(height) + 0.5) * step_y - 0.5).astype(np.float32)
    x = ((np.arange(width) + 0.5) * step_x - 0.5).astype(np.float32)
    grid_x, grid_y = np.meshgrid(x, y, indexing="xy")
    return cv2.remap(
        np.ascontiguousarray(values, dtype=np.float32),
        grid_x,
        grid_y,
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )


def _color_map(values: np.ndarray, low: float, high: float, color_map: int) -> np.ndarray:
    unit = (values - low) / (high - low) if high > low else np.zeros_like(values)
    return cv2.applyColorMap(np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8), color_map)


def _energy_tile(row: AlignmentRow, tile_size: int) -> np.ndarray:
    energy = feature_energy(row.feature)
    tile = _map_to_tile(energy, row, tile_size)
    return _color_map(tile, float(tile.min()), float(tile.max()), cv2.COLORMAP_VIRIDIS)


def _weight_tile(row: AlignmentRow, tile_size: int, font_size: int) -> np.ndarray:
    if row.weight is None:
        return np.full((*_tile_shape(row.key_frame, tile_size), 3), 255, np.uint8)
    tile = _map_to_tile(row.weight, row, tile_size)
    low, high = float(tile.min()), float(tile.max())
    picture = _color_map(tile, low, high, cv2.COLORMAP_INFERNO)
    _tag_in_corner(picture, f"{low:.2f} to {high:.2f}", font_size)
    return picture


def _flow_tile(
    row: AlignmentRow, tile_size: int, font_size: int, max_displacement: float | None
) -> np.ndarray:
    flow = row.flow_in_pixels()
    longest = float(flow_magnitude(flow).max())
    # Below a hundredth of a pixel all is rounding: white, not noise in full colour.
    scale = max_displacement if max_displacement is not None else max(longest, 0.01)
    picture = flow_to_color(
        np.stack([_map_to_tile(component, row, tile_size) for component in flow]), scale
    )
    height, width = picture.shape[:2]
    size = max(8, min(height, width) // 4)
    if size <= min(height, width):
        legend = color_wheel_legend(size)
        radius = (size - 1) / 2
        y, x = np.ogrid[:size, :size]
        disc = np.hypot(y - radius, x - radius) <= radius
        margin = min(4, (width - size) // 2, (height - size) // 2)
        corner = picture[margin : margin + size, width - margin - size : width - margin]
        corner[disc] = legend[disc]
    _tag_in_corner(picture, f"max {longest:.1f} px", font_size)
    return picture


def _tag_in_corner(picture: np.ndarray, text: str, font_size: int) -> None:
    height = tag_size(text, font_size)[1]
    draw_tag(picture, text, 0, picture.shape[0] - height, font_size, WHITE)


def _detection_tile(
    row: AlignmentRow,
    tile_size: int,
    font_size: int,
    class_names: Sequence[str] | None,
    score_threshold: float,
) -> np.ndarray:
    if row.detections is None:
        return np.full((*_tile_shape(row.key_frame, tile_size), 3), 255, np.uint8)
    return draw_detections(
        row.key_frame,
        row.detections,
        class_names,
        score_threshold=score_threshold,
        gt_boxes=row.gt_boxes,
        scale=tile_size / max(row.key_frame.shape[:2]),
        font_size=max(10, font_size - 3),
    )
