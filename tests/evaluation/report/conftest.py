"""Frames for the report."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from vid_cases import make_dicts


@pytest.fixture
def dicts(tmp_path):
    """Return the frames of `make_dicts` with grey pictures on disk."""
    records = make_dicts()
    for record in records:
        record["file_name"] = str(tmp_path / f"{record['image_id']}.png")
        cv2.imwrite(record["file_name"], np.full((200, 300, 3), 128, np.uint8))
    return records
