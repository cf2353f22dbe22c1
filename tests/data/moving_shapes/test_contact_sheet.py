"""The picture of what was made."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pytest

from iff_detectron2.data.moving_shapes.contact_sheet import choose_excerpts, draw_contact_sheet
from iff_detectron2.data.moving_shapes.writer import Excerpt

BOX = (10, 12, 50, 60)
EXCERPT = Excerpt(
    folder="val/moving_shapes_val_00000000",
    category_id=2,
    first_frame=0,
    boxes=(BOX,) * 3,
    kinds=(None, "noise", None),
    diameter=60,
)


def test_the_written_sheet_is_a_picture(small_set: Path) -> None:
    sheet = cv2.imread(str(small_set / "contact_sheet.png"))
    assert sheet.shape[1] > 7 * 224
    assert sheet.std() > 20


def test_rows_prefer_deteriorated_objects_in_sight() -> None:
    clear = dataclasses.replace(EXCERPT, kinds=(None,) * 3)
    gone = dataclasses.replace(EXCERPT, boxes=(BOX, None, None))
    other = dataclasses.replace(clear, category_id=5)
    assert choose_excerpts([clear, gone, EXCERPT, other]) == [EXCERPT, other]


def test_rows_show_different_kinds() -> None:
    noise = dataclasses.replace(EXCERPT, category_id=3)
    pose = dataclasses.replace(noise, kinds=(None, "pose", None))
    assert choose_excerpts([EXCERPT, noise, pose]) == [EXCERPT, pose]


def test_cells_show_frame_and_box(tmp_path: Path) -> None:
    folder = tmp_path / "Data/VID" / EXCERPT.folder
    folder.mkdir(parents=True)
    for t in range(3):
        cv2.imwrite(str(folder / f"{t:06d}.JPEG"), np.full((160, 224, 3), 40 * t + 40, np.uint8))
    sheet = draw_contact_sheet(tmp_path, [EXCERPT])
    right = sheet.shape[1]
    for t in range(3):
        # Cells of the frames' own size, from the right, 6 pixels apart.
        left = right - (3 - t) * 230 - 6
        cell = sheet[62 : 62 + 160, left : left + 224].astype(int)
        assert np.abs(cell[100:150, 100:200] - (40 * t + 40)).max() <= 2
        outline = cell[BOX[3] + 2, BOX[0] : BOX[2]]
        assert np.ptp(outline.mean(axis=0)) > 60  # coloured, in a grey frame


def test_a_missing_frame_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"000000\.JPEG; generate the set again"):
        draw_contact_sheet(tmp_path, [EXCERPT])


def test_nothing_to_show() -> None:
    with pytest.raises(ValueError, match="at least one excerpt"):
        draw_contact_sheet(Path(), [])
