"""Are boxes inside of their images, and classes among those of the dataset?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from .report import Finding, finding

Record = Mapping[str, Any]


def xyxy(annotation: Record) -> list[float]:
    """Box of an annotation as x1, y1, x2, y2 in pixels."""
    mode = BoxMode(int(annotation["bbox_mode"]))
    if mode == BoxMode.XYXY_ABS:
        return [float(value) for value in annotation["bbox"]]
    return [float(v) for v in BoxMode.convert(annotation["bbox"], mode, BoxMode.XYXY_ABS)]


def check_boxes(dicts: Sequence[Record], class_names: Sequence[str]) -> list[Finding]:
    """Boxes and categories.

    Args:
        dicts: dataset dicts.
        class_names: `thing_classes` of the dataset.
    """
    pairs = [(record, a) for record in dicts for a in record.get("annotations", ())]
    whole = [(r, a) for r, a in pairs if {"bbox", "bbox_mode", "category_id"} <= a.keys()]
    incomplete = [r["file_name"] for r, a in pairs if not {"bbox", "bbox_mode"} <= a.keys()]
    incomplete += [r["file_name"] for r, a in pairs if "category_id" not in a]
    boxes = np.array([xyxy(a) for _, a in whole], dtype=np.float64).reshape(-1, 4)
    sizes = np.array(
        [(r.get("width", np.inf), r.get("height", np.inf)) for r, _ in whole], dtype=np.float64
    ).reshape(-1, 2)
    top_left, bottom_right = boxes[:, :2], boxes[:, 2:]
    finite = ~_any(~np.isfinite(boxes))
    inverted = finite & _any(bottom_right < top_left)
    away = finite & ~inverted & (_any(top_left >= sizes) | _any(bottom_right < 0))
    over = finite & ~inverted & ~away & (_any(top_left < 0) | _any(bottom_right > sizes))

    def places(which: np.ndarray) -> list[str]:
        return [
            f"{whole[row][0]['file_name']}: {boxes[row].round(2).tolist()}"
            for row in np.flatnonzero(which)
        ]

    return [
        *finding("problem", "boxes", "annotations without box or category", incomplete),
        *finding("problem", "boxes", "boxes that are not finite", places(~finite)),
        *finding("problem", "boxes", "boxes with x2 < x1 or y2 < y1", places(inverted)),
        *finding("problem", "boxes", "boxes outside of their image", places(away)),
        *finding("problem", "boxes", "boxes that reach out of their image", places(over)),
        *finding("note", "boxes", "boxes that a frame has twice", _same(dicts)),
        *_check_classes(whole, class_names),
    ]


def _any(mask: np.ndarray) -> np.ndarray:
    """Which rows have a true value, [N, K] -> [N]."""
    return np.logical_or.reduce(mask, axis=1)


def _same(dicts: Sequence[Record]) -> list[str]:
    found = []
    for record in dicts:
        boxes = Counter(
            (tuple(a.get("bbox", ())), a.get("category_id")) for a in record.get("annotations", ())
        )
        found += [f"{record['file_name']}: {list(b)}" for (b, _), n in boxes.items() if n > 1]
    return found


def _check_classes(
    pairs: Sequence[tuple[Record, Record]], class_names: Sequence[str]
) -> Iterator[Finding]:
    if not class_names:
        yield Finding("problem", "classes", "the dataset has no thing_classes")
        return
    repeated = [name for name, count in Counter(class_names).items() if count > 1]
    yield from finding("problem", "classes", "class names that occur twice", repeated)
    counts = Counter(annotation["category_id"] for _, annotation in pairs)
    num_classes = len(class_names)
    outside = [
        f"category {category!r}, {count} boxes"
        for category, count in counts.items()
        if not isinstance(category, int) or not 0 <= category < num_classes
    ]
    hint = "; are they counted from 1?" if num_classes in counts and 0 not in counts else ""
    text = f"categories outside of 0..{num_classes - 1}{hint}"
    yield from finding("problem", "classes", text, outside)
    unused = [name for number, name in enumerate(class_names) if number not in counts]
    yield from finding("note", "classes", "classes without a box", unused)
