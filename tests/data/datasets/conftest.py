"""Small annotation files in JSON, to be broken by the tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

JSONWriter = Callable[[dict[str, Any]], Path]


@pytest.fixture
def write_json(tmp_path: Path) -> JSONWriter:
    """Write an annotation file; its folder is the tests' root of images."""

    def write(content: dict[str, Any]) -> Path:
        path = tmp_path / "labels.json"
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.fixture
def coco_content() -> dict[str, Any]:
    """Two videos of 3 and 2 frames, two classes; the values are chosen by hand."""

    def image(identity: int, video: int, frame: int, file_name: str) -> dict[str, Any]:
        return {
            "id": identity,
            "video_id": video,
            "frame_id": frame,
            "file_name": file_name,
            "width": 64,
            "height": 48,
        }

    def annotation(identity: int, image_id: int, category: int, bbox: list, track: int) -> dict:
        return {
            "id": identity,
            "image_id": image_id,
            "category_id": category,
            "bbox": bbox,
            "instance_id": track,
        }

    return {
        "videos": [{"id": 7, "name": "first"}, {"id": 3, "name": "second"}],
        "images": [
            image(11, 7, 0, "first/000000.jpg"),
            image(12, 7, 1, "first/000001.jpg"),
            image(13, 7, 2, "first/000002.jpg"),
            image(21, 3, 0, "second/000000.jpg"),
            image(22, 3, 1, "second/000001.jpg"),
        ],
        "annotations": [
            annotation(1, 11, 5, [4, 6, 20, 24], 100),
            annotation(2, 11, 2, [30, 6, 20.5, 24], 101),
            annotation(3, 12, 5, [6, 6, 20, 24], 100),
            annotation(4, 21, 2, [0, 0, 10, 10], 100),
        ],
        "categories": [{"id": 5, "name": "dog"}, {"id": 2, "name": "cat"}],
    }


@pytest.fixture
def frame_files(tmp_path: Path) -> Callable[..., None]:
    """Make empty image files, which the readers do not open."""

    def make(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    return make
