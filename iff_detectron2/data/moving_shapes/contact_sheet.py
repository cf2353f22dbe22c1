"""A picture of what was made: samples, and a bad moment of each class."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from .classes import MOVING_SHAPES_CLASSES
from .writer import EXCERPT_FRAMES, Excerpt

_CELL_WIDTH = 224
_GAP = 6
_CAPTION = 20
_LABEL_WIDTH = 168
_HEADER = 62
_TYPICAL_DIAMETER = 60
_PAPER = (250, 248, 247)  # all colours are BGR
_INK = (60, 52, 46)
_FAINT = (150, 142, 136)
_CLEAR = (120, 170, 70)
_SPOILT = (60, 90, 220)


def draw_contact_sheet(root: Path, excerpts: list[Excerpt]) -> np.ndarray:
    """Draw one row a class: successive frames around a deterioration, with the object's box.

    Args:
        root: dataset root, whose frames are read.
        excerpts: candidates; the rows show as many kinds of deterioration as they can.

    Returns:
        uint8 BGR image.
    """
    chosen = choose_excerpts(excerpts)
    if not chosen:
        raise ValueError("a contact sheet needs at least one excerpt, got none")
    frames = [_read_frames(root, excerpt) for excerpt in chosen]
    height, width = frames[0][0].shape[:2]
    cell_height = max(round(_CELL_WIDTH * height / width), 1)
    row_height = cell_height + _CAPTION + _GAP
    columns = max(len(row) for row in frames)
    sheet = np.full(
        (
            _HEADER + len(chosen) * row_height + _GAP,
            _LABEL_WIDTH + columns * (_CELL_WIDTH + _GAP) + _GAP,
            3,
        ),
        _PAPER,
        np.uint8,
    )
    _text(sheet, "MovingShapes", (16, 40), 1.0, _INK, 2)
    x = 270
    legend = (("one object a row, frame by frame", None), ("clear", _CLEAR))
    for words, color in (*legend, ("deteriorated", _SPOILT)):
        if color is not None:
            cv2.rectangle(sheet, (x, 27), (x + 13, 40), color, -1)
            x += 20
        _text(sheet, words, (x, 39), 0.5, _FAINT)
        x += cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)[0][0] + 30
    for row, (excerpt, images) in enumerate(zip(chosen, frames, strict=True)):
        top = _HEADER + row * row_height
        first, second = MOVING_SHAPES_CLASSES[excerpt.category_id].split("_")
        _text(sheet, first, (16, top + cell_height // 2 - 8), 0.62, _INK)
        _text(sheet, second, (16, top + cell_height // 2 + 16), 0.62, _INK)
        video, frame = excerpt.folder.rpartition("_")[2].lstrip("0") or "0", excerpt.first_frame
        source = f"{excerpt.folder.partition('/')[0]} {video}, from {frame}"
        _text(sheet, source, (16, top + cell_height // 2 + 38), 0.4, _FAINT)
        for column, image in enumerate(images):
            left = _LABEL_WIDTH + column * (_CELL_WIDTH + _GAP)
            cell = _draw_cell(image, excerpt, column, (_CELL_WIDTH, cell_height))
            sheet[top : top + cell_height, left : left + _CELL_WIDTH] = cell
            kind = excerpt.kinds[column]
            if kind is not None:
                place = (left + 2, top + cell_height + 14)
                _text(sheet, kind.replace("_", " "), place, 0.43, _SPOILT)
    return sheet


def choose_excerpts(excerpts: list[Excerpt]) -> list[Excerpt]:
    """Choose the best excerpt of each class that has one, with many kinds among them."""
    used: Counter[str] = Counter()
    chosen = []
    for category_id in range(len(MOVING_SHAPES_CLASSES)):
        candidates = [e for e in excerpts if e.category_id == category_id]
        if not candidates:
            continue
        best = max(candidates, key=lambda excerpt: _appeal(excerpt, used))
        used.update({kind for kind in best.kinds if kind is not None})
        chosen.append(best)
    return chosen


def _appeal(excerpt: Excerpt, used: Counter[str]) -> tuple[float, float]:
    """How good a row it makes: always in sight, a new kind, clear at both ends, of usual size."""
    kinds = {kind for kind in excerpt.kinds if kind is not None}
    spoilt = sum(kind is not None for kind in excerpt.kinds)
    score = 4.0 * all(box is not None for box in excerpt.boxes)
    score += 1.5 * (excerpt.kinds[0] is None and excerpt.kinds[-1] is None)
    score += (1.0 if 2 <= spoilt <= EXCERPT_FRAMES - 2 else 0.0) + (2.0 if kinds else 0.0)
    score -= sum(min(used[kind], 3) for kind in kinds) * 1.0
    return score, -abs(excerpt.diameter - _TYPICAL_DIAMETER)


def _read_frames(root: Path, excerpt: Excerpt) -> list[np.ndarray]:
    images = []
    for offset in range(len(excerpt.boxes)):
        path = root / "Data" / "VID" / excerpt.folder / f"{excerpt.first_frame + offset:06d}.JPEG"
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise FileNotFoundError(f"cannot read the frame {path}; generate the set again")
        images.append(image)
    return images


def _draw_cell(
    image: np.ndarray, excerpt: Excerpt, column: int, size: tuple[int, int]
) -> np.ndarray:
    shrinks = size[0] < image.shape[1]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    cell = cv2.resize(image, size, interpolation=interpolation)
    color = _CLEAR if excerpt.kinds[column] is None else _SPOILT
    box = excerpt.boxes[column]
    if box is not None:
        scale = np.array([size[0] / image.shape[1], size[1] / image.shape[0]] * 2)
        x1, y1, x2, y2 = np.round(np.add(box, (0, 0, 1, 1)) * scale).astype(int).tolist()
        for grow, shade in ((2, (255, 255, 255)), (1, color)):
            corner, opposite = (x1 - grow - 1, y1 - grow - 1), (x2 + grow, y2 + grow)
            cv2.rectangle(cell, corner, opposite, shade, 1 if grow == 2 else 2)
    if excerpt.kinds[column] is not None:
        cv2.rectangle(cell, (0, 0), (size[0] - 1, size[1] - 1), color, 3)
    return cell


def _text(
    image: np.ndarray,
    text: str,
    place: tuple[int, int],
    scale: float,
    color: tuple[int, int, int],
    thickness: int = 1,
) -> None:
    cv2.putText(image, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, color, thickness, cv2.LINE_AA)
