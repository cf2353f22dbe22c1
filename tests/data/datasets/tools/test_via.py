"""CSV of the VGG Image Annotator."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from iff_detectron2.data import register_via_csv

pytestmark = pytest.mark.usefixtures("clean_catalogs")

HEAD = ["filename", "file_size", "file_attributes", "region_count", "region_id"]
HEAD += ["region_shape_attributes", "region_attributes"]
RECT = {"name": "rect", "x": 4, "y": 6, "width": 20, "height": 24}


@pytest.fixture
def load(tmp_path: Path):
    for number in range(1, 5):
        image = Image.fromarray(np.zeros((48, 64, 3), np.uint8))
        image.save(tmp_path / f"clip_{number}.jpg")

    def load(rows: list[tuple[str, Any, Any]], **options: Any) -> list[dict]:
        with (tmp_path / "via.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(HEAD)
            for name, shape, about in rows:
                texts = [v if isinstance(v, str) else json.dumps(v) for v in (shape, about)]
                writer.writerow([name, 1234, "{}", 1, 0, *texts])
        register_via_csv("set", tmp_path, tmp_path / "via.csv", **options)
        return DatasetCatalog.get("set")

    return load


def test_as_the_tool_writes_it(load, caplog) -> None:
    rows = [
        ("clip_3.jpg", RECT, {"class": "dog", "track_id": "2"}),
        ("clip_1.jpg", RECT, {"class": "cat", "track_id": "a"}),
        ("clip_1.jpg", {"name": "circle", "cx": 5, "cy": 5, "r": 2}, {"class": "cat"}),
        ("clip_2.jpg", {}, {}),
    ]
    with caplog.at_level("INFO", "iff_detectron2"):
        dicts = load(rows)
    assert [(d["frame_number"], d["frame_index"], d["video_length"]) for d in dicts] == [
        (1, 0, 4),
        (2, 1, 4),
        (3, 2, 4),
    ]
    names = MetadataCatalog.get("set").thing_classes
    assert names == ["cat", "dog"]
    assert [
        [(names[a["category_id"]], a["track_id"], a["bbox"]) for a in d["annotations"]]
        for d in dicts
    ] == [[("cat", "a", [4, 6, 24, 30])], [], [("dog", 2, [4, 6, 24, 30])]]
    assert "left out 1 regions that are no rectangles ('circle')" in caplog.text


@pytest.mark.parametrize(
    "about",
    [
        {"Label": "dog"},
        {"species": "dog"},
        {"type": {"dog": True, "cat": False}},
        {"name": " dog "},
    ],
)
def test_where_the_class_may_be(load, about: dict[str, Any]) -> None:
    (record,) = load([("clip_1.jpg", RECT, about)])
    assert MetadataCatalog.get("set").thing_classes == ["dog"]
    assert "track_id" not in record["annotations"][0]


def test_classes_that_do_not_occur_keep_their_number(load) -> None:
    (record,) = load([("clip_1.jpg", RECT, {"class": "dog"})], classes=["cat", "dog"])
    assert MetadataCatalog.get("set").thing_classes == ["cat", "dog"]
    assert record["annotations"][0]["category_id"] == 1


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("clip_1.jpg", "{", "{}"), "via.csv:2: region_shape_attributes must be a JSON object"),
        (("clip_1.jpg", RECT, "[]"), "via.csv:2: region_attributes must be a JSON object"),
        (("clip_1.jpg", {**RECT, "x": None}, {}), "x, y, width and height must be numbers"),
        (("clip_1.jpg", RECT, {"a": "b", "c": "d"}), "must have the class as one of class, label"),
        (("cover.jpg", RECT, {"class": "x"}), "the image 'cover.jpg' has no frame number"),
        (("../clip_1.jpg", RECT, {"class": "x"}), "must be a relative path"),
    ],
)
def test_malformed_lines(load, row: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load([row])


def test_another_table(load, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    register_via_csv("other", tmp_path, tmp_path / "other.csv")
    with pytest.raises(ValueError, match=r"other\.csv:2: VIA exports a CSV with filename"):
        DatasetCatalog.get("other")
