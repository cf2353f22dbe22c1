"""Detections drawn into a frame."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from iff_detectron2.structures import NO_TRACK, Detections
from iff_detectron2.structures.image import check_bgr_image

from .image import WHITE, Color, class_color, draw_tag, resize, tag_size
from .segments import draw_keypoints, draw_mask

_DARK: Color = (35, 35, 35)
# Most widths of a box that its label may have.
ROOM = 1.8
_SMALLEST_FONT = 9


def draw_detections(
    frame: np.ndarray,
    detections: Detections,
    class_names: Sequence[str] | None = None,
    *,
    score_threshold: float = 0.0,
    show_scores: bool = True,
    gt_boxes: np.ndarray | None = None,
    scale: float = 1.0,
    font_size: int | None = None,
    caption: str = "",
) -> np.ndarray:
    """Draw boxes with class, track and score, such as `pedestrian #15 0.55`, on a copy of a frame.

    A track keeps its colour through the video; what is on none has the colour of its class. The
    best score lies on top.

    Args:
        frame: uint8 BGR [H, W, 3].
        detections: of this frame alone.
        class_names: names by class number; the bare number is written where not given.
        score_threshold: detections with a lower score are not drawn.
        show_scores: write scores.
        gt_boxes: as for `draw_boxes`.
        scale: as for `draw_boxes`.
        font_size: as for `draw_boxes`.
        caption: as for `draw_boxes`.

    Returns:
        uint8 BGR [round(H * scale), round(W * scale), 3].

    Raises:
        TypeError, ValueError: as of `draw_boxes`, and if a class number has no name.
    """
    order = np.argsort(-detections.scores, kind="stable")
    shown = detections[order[detections.scores[order] >= score_threshold]]
    limit = np.inf if class_names is None else len(class_names)
    labels, colors = [], []
    rows = zip(shown.classes.tolist(), shown.tracks().tolist(), shown.scores.tolist(), strict=True)
    for class_id, track_id, score in rows:
        if not 0 <= class_id < limit:
            known = "" if class_names is None else f" of {len(class_names)} class names"
            raise ValueError(f"class {class_id} is not the index of a class{known}")
        name = str(class_id) if class_names is None else class_names[class_id]
        tracked = track_id != NO_TRACK
        short = [f"{name} #{track_id}", f"#{track_id}"] if tracked else [name]
        labels.append([f"{short[0]} {score:.2f}", *short] if show_scores else short)
        colors.append(class_color(track_id if tracked else class_id))
    picture = _with_masks(frame, shown, colors)
    return draw_boxes(
        picture,
        shown.boxes,
        labels,
        colors,
        gt_boxes=gt_boxes,
        scale=scale,
        font_size=font_size,
        caption=caption,
    )


def _with_masks(frame: np.ndarray, shown: Detections, colors: Sequence[Color]) -> np.ndarray:
    """Tint masks and draw keypoints, the best score on top; on a copy where there are any."""
    if not len(shown) or (shown.masks is None and shown.keypoints is None):
        return frame
    picture = frame.copy()
    for row in range(len(shown) - 1, -1, -1):
        if shown.masks is not None:
            draw_mask(picture, shown.masks[row], colors[row])
        if shown.keypoints is not None:
            draw_keypoints(picture, shown.keypoints[row], colors[row])
    return picture


def draw_boxes(
    frame: np.ndarray,
    boxes: np.ndarray,
    labels: Sequence[Sequence[str]],
    colors: Sequence[Color],
    *,
    gt_boxes: np.ndarray | None = None,
    scale: float = 1.0,
    font_size: int | None = None,
    caption: str = "",
) -> np.ndarray:
    """Draw labelled boxes on a copy of a frame; the first lies on top.

    A label is at most `ROOM` times as wide as its box: where it is longer, it is written smaller,
    then in its shorter forms; a box too small for any keeps its colour alone.

    Args:
        frame: uint8 BGR [H, W, 3].
        boxes: [N, 4] corners (x1, y1, x2, y2) in pixels of the frame.
        labels: for each box the forms of its label, the longest first.
        colors: N colours, BGR.
        gt_boxes: [M, 4] ground truth, drawn as a thin dashed line, white with dark gaps.
        scale: the picture is that many times larger than the frame; lines and letters are drawn
            after enlarging, so that they stay crisp on small frames.
        font_size: of a label that has room, in pixels of the picture; by default fitted to it.
        caption: written into the upper left corner.

    Returns:
        uint8 BGR [round(H * scale), round(W * scale), 3].

    Raises:
        TypeError: if the frame is not a uint8 array.
        ValueError: if shapes or lengths disagree, a coordinate is not finite, or the scale is not
            positive.
    """
    check_bgr_image(frame)
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError(f"the scale of the picture must be positive, got {scale}")
    found = _checked_boxes(boxes, "boxes")
    if not len(found) == len(labels) == len(colors):
        raise ValueError(
            f"{len(found)} boxes were given with {len(labels)} labels and {len(colors)} colours"
        )
    truth = _checked_boxes(gt_boxes if gt_boxes is not None else [], "gt_boxes")

    height, width = (max(1, round(side * scale)) for side in frame.shape[:2])
    picture = resize(frame, width, height)
    factor = np.array([width / frame.shape[1], height / frame.shape[0]] * 2)
    short_side = min(height, width)
    font_size = font_size or int(np.clip(short_side / 36, 11, 22))
    thickness = max(2, round(short_side / 240))

    places = [_to_pixels(box * factor, width, height) for box in found]
    for (x1, y1, x2, y2), color in zip(places[::-1], colors[::-1], strict=True):
        # A dark seam keeps the box visible on a background of its own colour.
        cv2.rectangle(picture, (x1, y1), (x2, y2), _DARK, thickness + 2)
        cv2.rectangle(picture, (x1, y1), (x2, y2), color, thickness)
    for box in truth:
        _dashed_rectangle(picture, _to_pixels(box * factor, width, height), max(3, font_size // 3))

    # Tags after all boxes, the first box first, so that it gets the best place.
    taken: list[tuple[int, int, int, int]] = []
    if caption:
        draw_tag(picture, caption, 0, 0, font_size, _DARK)
        taken.append((0, 0, *tag_size(caption, font_size)))
    for place, forms, color in zip(places, labels, colors, strict=True):
        text, size = _fitting(forms, ROOM * (place[2] - place[0]), font_size)
        if not text:
            continue
        tag_width, tag_height = tag_size(text, size)
        x, y = _tag_place(place, tag_width, tag_height, width, height, thickness, taken)
        taken.append((x, y, x + tag_width, y + tag_height))
        draw_tag(picture, text, x, y, size, color)
    return picture


def _fitting(forms: Sequence[str], room: float, font_size: int) -> tuple[str, int]:
    """Return the longest form that fits and its size; "" if none does, however small."""
    for text in forms:
        for size in range(font_size, min(_SMALLEST_FONT, font_size) - 1, -1):
            if tag_size(text, size)[0] <= room:
                return text, size
    return "", font_size


def _checked_boxes(boxes: np.ndarray | Sequence, name: str) -> np.ndarray:
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{name} must have shape [N, 4], got {list(array.shape)}")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise ValueError(f"{name}[{row}] has a coordinate that is not finite: {array[row]}")
    return array


def _to_pixels(box: np.ndarray, width: int, height: int) -> tuple[int, int, int, int]:
    # Far outside, OpenCV's integers would overflow; one picture beyond the border is enough.
    sides = np.array([width, height] * 2)
    x1, y1, x2, y2 = np.rint(np.clip(box, -sides, 2 * sides)).astype(int)
    return int(x1), int(y1), int(x2), int(y2)


def _tag_place(
    box: tuple[int, int, int, int],
    tag_width: int,
    tag_height: int,
    width: int,
    height: int,
    thickness: int,
    taken: list[tuple[int, int, int, int]],
) -> tuple[int, int]:
    """Above the box, inside its top, below it or inside its bottom: the first that is free."""
    x1, y1, x2, y2 = box
    left, right = x1 - thickness // 2, x2 - tag_width + 1
    rows = (y1 - tag_height, y1, y2 + 1, y2 - tag_height + 1)
    places = [(left, y) for y in rows] + [(right, y) for y in rows]
    inside = [
        (min(max(x, 0), max(width - tag_width, 0)), min(max(y, 0), max(height - tag_height, 0)))
        for x, y in places
    ]

    def overlap(place: tuple[int, int]) -> int:
        x, y = place
        return sum(
            max(0, min(x + tag_width, other[2]) - max(x, other[0]))
            * max(0, min(y + tag_height, other[3]) - max(y, other[1]))
            for other in taken
        )

    # min() keeps the first of equals, so the order above is the order of preference.
    return min(inside, key=overlap)


def _dashed_rectangle(picture: np.ndarray, box: tuple[int, int, int, int], dash: int) -> None:
    x1, y1, x2, y2 = box
    for x, y, dx, dy, length in (
        (x1, y1, 1, 0, x2 - x1),
        (x1, y2, 1, 0, x2 - x1),
        (x1, y1, 0, 1, y2 - y1),
        (x2, y1, 0, 1, y2 - y1),
    ):
        # Dark between the white dashes: seen on any background, and one pixel wide, so that a box
        # in the same place is seen, too.
        for number, start in enumerate(range(0, max(length, 1), dash)):
            end = min(start + dash - 1, length)
            color = WHITE if number % 2 == 0 else _DARK
            first = (x + dx * start, y + dy * start)
            cv2.line(picture, first, (x + dx * end, y + dy * end), color, 1)
