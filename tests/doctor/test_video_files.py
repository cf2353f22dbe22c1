"""The doctor on video files: it counts and reads the frames that training does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from coded_video import damage_frames, shown_number, trim, write_coded_video
from PIL import Image

from iff_detectron2.data import VIDDatasetMapper, build_video_index, register_from_specs
from iff_detectron2.doctor import Report, examine
from iff_detectron2.doctor.report import Finding

pytestmark = pytest.mark.usefixtures("clean_catalogs")


def register(folder: Path, video: str, frames=(0, 3)) -> None:
    """Register a video file of which two frames are labelled."""
    content = {
        "videos": [{"id": 1, "file_name": video}],
        "images": [{"id": k, "video_id": 1, "frame_id": t} for k, t in enumerate(frames, 1)],
        "annotations": [
            {"id": k, "image_id": k, "category_id": 1, "bbox": [5 + k, 9, 20, 20], "track_id": 1}
            for k, _ in enumerate(frames, 1)
        ],
        "categories": [{"id": 1, "name": "dog"}],
    }
    (folder / "labels.json").write_text(json.dumps(content))
    register_from_specs([f"set=video_files:{folder}@{folder / 'labels.json'}"])


def unreadable(report: Report) -> list[Finding]:
    return [f for f in report.findings if f.check == "files" and f.level == "problem"]


def test_sound_videos_are_sound(tmp_path: Path) -> None:
    """Of more than 64 frames, blocks went to threads that shared one decoder."""
    write_coded_video(tmp_path / "v.avi", "XVID", 200)
    register(tmp_path, "v.avi")
    for _ in range(3):
        assert unreadable(examine("set", decode=True)) == []


def test_damage_is_named_and_stays_one_frame(tmp_path: Path) -> None:
    write_coded_video(tmp_path / "whole.avi", "MJPG", 80)
    damage_frames(tmp_path / "whole.avi", tmp_path / "v.avi", {7, 70})
    register(tmp_path, "v.avi")
    report = examine("set", decode=True)
    (found,) = unreadable(report)
    assert found.count == 2
    assert "frame 7 of the video" in found.examples[0]
    assert report.summary["frames_of_videos"] == 80


def test_training_and_doctor_count_a_trimmed_clip_alike(tmp_path: Path) -> None:
    """Reference frames are drawn up to the last frame that the edit list shows."""
    write_coded_video(tmp_path / "whole.mp4", "mp4v", 70)
    trim(tmp_path / "whole.mp4", tmp_path / "v.mp4", 20, 45)
    register(tmp_path, "v.mp4", frames=(44,))
    report = examine("set", decode=True)
    assert unreadable(report) == []
    (frames,) = build_video_index(["set"]).values()
    assert report.summary["frames_of_videos"] == len(frames) == 45
    mapper = VIDDatasetMapper(
        True,
        augmentations=[],
        image_format="BGR",
        frame_index=build_video_index(["set"]),
        num_refs=10,
        max_offset=10,
    )
    sample = {"file_name": frames[44], "video_id": "v.mp4", "frame_index": 44}
    sample["video_id"] = next(iter(build_video_index(["set"])))
    mapped = mapper(sample)
    shown = [shown_number(x.numpy().transpose(1, 2, 0)) for x in mapped["ref_images"]]
    assert [number - 64 for number in shown] == mapped["ref_offsets"]


@pytest.mark.parametrize("decode", [False, True])
def test_float_images_are_a_problem(tmp_path: Path, decode: bool, dicts_of_images) -> None:
    Image.fromarray(np.ones((48, 64), np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(np.ones((48, 64), np.uint16)).save(tmp_path / "deep.png")
    dicts_of_images([tmp_path / "float.tif", tmp_path / "deep.png"])
    (found,) = unreadable(examine("images", decode=decode))
    assert found.count == 1
    assert "float.tif" in found.examples[0]
    assert "floating point numbers" in found.examples[0]


@pytest.fixture
def dicts_of_images():
    """Register images of 64 x 48 pixels as a video without boxes."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    def make(files: list[Path]) -> None:
        dicts = [
            {
                **{"file_name": str(file), "image_id": t, "width": 64, "height": 48},
                **{"video_id": "v", "frame_index": t, "video_length": len(files)},
                "annotations": [],
            }
            for t, file in enumerate(files)
        ]
        DatasetCatalog.register("images", lambda: dicts)
        MetadataCatalog.get("images").thing_classes = ["dog"]

    return make
