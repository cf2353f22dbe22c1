"""Label Studio's JSON export of videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coded_video import write_coded_video
from detectron2.data import DatasetCatalog, MetadataCatalog

from iff_detectron2.data import register_label_studio
from iff_detectron2.data.datasets.tools.label_studio import boxes_between

pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    write_coded_video(folder / "clip.avi", "MJPG", 6)  # 96 x 64
    return folder


def key_frame(frame: int, x: float, enabled: bool = True, **fields: Any) -> dict[str, Any]:
    values = {"x": x, "y": 12.5, "width": 25, "height": 50, "rotation": 0, "time": frame / 25}
    return {"frame": frame, "enabled": enabled, **values, **fields}


@pytest.fixture
def content() -> list[dict[str, Any]]:
    sequence = [key_frame(2, 0), key_frame(4, 50, enabled=False)]
    value = {"framesCount": 6, "duration": 0.24, "sequence": sequence, "labels": ["Car"]}
    result = {
        "id": "tJhYZLMC9G",
        "type": "videorectangle",
        "from_name": "box",
        "to_name": "video",
        "origin": "manual",
        "value": value,
    }
    choice = {"id": "c", "type": "choices", "value": {"choices": ["day"]}}
    annotations = [
        {"id": 3, "was_cancelled": False, "result": [result, choice]},
        {"id": 4, "was_cancelled": True, "result": [result]},
    ]
    data = {"video": "/data/upload/1/0a1b2c3d-clip.avi"}
    return [{"id": 12, "annotations": annotations, "predictions": [], "data": data}]


@pytest.fixture
def load(tmp_path: Path, film: Path):
    def load(content: Any, **options: Any) -> list[dict]:
        path = tmp_path / "export.json"
        path.write_text(json.dumps(content))
        register_label_studio("set", film, path, **options)
        return DatasetCatalog.get("set")

    return load


def test_as_the_tool_writes_it(load, content, film: Path, caplog) -> None:
    with caplog.at_level("INFO", "iff_detectron2"):
        dicts = load(content)
    assert [(d["frame_number"], d["frame_index"]) for d in dicts] == [(n + 1, n) for n in range(6)]
    assert dicts[1]["file_name"] == f"{film}/clip.avi#frame=1"
    # Half-way between key frames the box is half-way; the second ends the track.
    assert [[a["bbox"] for a in d["annotations"]] for d in dicts] == [
        [],
        [[0, 8, 24, 40]],
        [[24, 8, 48, 40]],
        [[48, 8, 72, 40]],
        [],
        [],
    ]
    assert {a["track_id"] for d in dicts for a in d["annotations"]} == {"tJhYZLMC9G"}
    assert MetadataCatalog.get("set").thing_classes == ["Car"]
    assert "left out 1 results of the type 'choices'" in caplog.text


def test_frames_between_key_frames_by_hand() -> None:
    frames = [(2, (0.0,), True), (4, (10.0,), False), (6, (3.0,), True)]
    found = {frame: values[0] for frame, values in boxes_between(frames, 8)}
    assert found == {2: 0.0, 3: 5.0, 4: 10.0, 6: 3.0, 7: 3.0, 8: 3.0}
    assert list(boxes_between([], 8)) == []


def test_a_turned_box(load, content) -> None:
    """24 x 32 pixels, turned clockwise by 90 degrees about the upper left corner at (48, 8)."""
    value = content[0]["annotations"][0]["result"][0]["value"]
    value["sequence"] = [key_frame(1, 50, enabled=False, rotation=90)]
    (box,) = (a["bbox"] for a in load(content)[0]["annotations"])
    np.testing.assert_allclose(box, [16, 8, 48, 32], atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c[0].pop("annotations"), r"task 12: 'annotations' must be a list of objects"),
        (lambda c: c[0].update(data={}), "task 12: 'data' must name the video, got {}"),
        (
            lambda c: c[0]["annotations"][0]["result"][0]["value"].pop("labels"),
            "task 12, result 'tJhYZLMC9G': 'labels' must name one class, got None",
        ),
        (
            lambda c: c[0]["annotations"][0]["result"][0]["value"]["sequence"].reverse(),
            "the key frame 2 comes after 4",
        ),
        (
            lambda c: c[0]["annotations"][0]["result"][0]["value"]["sequence"][0].update(x="a"),
            "x, y, width, height, rotation must be numbers, got",
        ),
        (
            lambda c: c[0]["annotations"][0]["result"][0]["value"]["sequence"][1].update(frame=9),
            "frame 7 is outside of 'clip'|frame 9 is outside of 'clip'",
        ),
    ],
)
def test_malformed_files(load, content, change, message: str) -> None:
    change(content)
    with pytest.raises(ValueError, match=message) as caught:
        load(content)
    assert "export.json" in str(caught.value)


def test_another_form_of_export(load) -> None:
    with pytest.raises(ValueError, match=r"export\.json: Label Studio's export .* not JSON-MIN"):
        load({"video": "x"})
