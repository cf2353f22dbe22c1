"""COCO-style files as tools and public sets write them, by small samples of their schemas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from iff_detectron2 import add_iff_config
from iff_detectron2.data import (
    register_burst,
    register_coco_frames,
    register_coco_vid,
    register_from_specs,
    register_youtube_vis,
)
from iff_detectron2.data.training_stream import TrainingStream
from iff_detectron2.evaluation import VIDEvaluator

pytestmark = pytest.mark.usefixtures("clean_catalogs")

HASHES = ["%032x" % (0xA5A5_1234_5678_9ABC * (n + 3) ** 5 % (1 << 128)) for n in range(12)]


def plain(names: list[str], **fields: Any) -> dict[str, Any]:
    """Return a plain COCO file with a box in each image."""
    return {
        "images": [
            {"id": n, "file_name": name, "width": 64, "height": 48} for n, name in enumerate(names)
        ],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": [4, 6, 20, 24], **fields}
            for n in range(len(names))
        ],
        "categories": [{"id": 1, "name": "ball"}],
    }


@pytest.fixture
def load_frames(write_json, frame_files):
    """Register the names, which are made on the disk, as plain COCO."""

    def load(names: list[str], content: dict | None = None, **options: Any) -> list[dict]:
        frame_files(*names)
        path = write_json(content or plain(names))
        register_coco_frames("set", path, path.parent, **options)
        return DatasetCatalog.get("set")

    return load


def places(dicts: list[dict]) -> list[tuple[str, int, int]]:
    return [(d["video_id"], d["frame_number"], d["frame_index"]) for d in dicts]


def test_roboflow_names_are_frames_of_one_video(load_frames) -> None:
    names = [f"match_mp4-{n:04d}_jpg.rf.{h}.jpg" for n, h in enumerate(HASHES, start=3)]
    order = [5, 0, 11, *range(1, 5), *range(6, 11)]
    dicts = load_frames([names[n] for n in order])
    assert places(dicts) == [("match_mp4", n + 3, n) for n in order]
    assert dicts[0]["video_length"] == 12
    index = MetadataCatalog.get("set").frame_index()
    assert [Path(file).name for file in index["match_mp4"]] == names


def test_label_studio_names_and_backslashes(load_frames, frame_files) -> None:
    names = [f"images/{h[:7]}f-frame_{n:04d}.jpg" for n, h in enumerate(HASHES[:4])]
    frame_files(*names)
    dicts = load_frames(names, plain([name.replace("/", "\\") for name in names]))
    assert places(dicts) == [("images/frame", n, n) for n in range(4)]


def test_a_date_is_no_hash(load_frames) -> None:
    names = [f"{day}-frame_{n}.jpg" for day in (20240501, 20240502) for n in (1, 2)]
    assert places(load_frames(names)) == [
        ("20240501-frame", 1, 0),
        ("20240501-frame", 2, 1),
        ("20240502-frame", 1, 0),
        ("20240502-frame", 2, 1),
    ]


def test_the_last_number_that_varies(load_frames) -> None:
    names = [f"cam{c}/film_{n:03d}_1080p.png" for c in (1, 2) for n in (7, 9)]
    assert places(load_frames(names)) == [
        ("cam1/film_1080p", 7, 0),
        ("cam1/film_1080p", 9, 1),
        ("cam2/film_1080p", 7, 0),
        ("cam2/film_1080p", 9, 1),
    ]


def test_a_pattern_for_the_number(load_frames, write_json, frame_files) -> None:
    names = [f"film_{n:03d}_cam{c}.png" for n in (7, 9) for c in (1, 2)]
    assert places(load_frames(names, number="film_([0-9]+)")) == [
        ("film_cam1", 7, 0),
        ("film_cam2", 7, 0),
        ("film_cam1", 9, 1),
        ("film_cam2", 9, 1),
    ]
    path = write_json(plain(names))
    register_from_specs([f"spec=coco_frames:{path.parent}@{path}@number=film_([0-9]+)"])
    assert DatasetCatalog.get("spec") == DatasetCatalog.get("set")


@pytest.mark.parametrize("number", ["film_[0-9]+", "(a)(b)", "film_("])
def test_patterns_that_find_no_number(tmp_path: Path, number: str) -> None:
    with pytest.raises(ValueError, match=r"must have one group|is not a regular expression"):
        register_coco_frames("set", tmp_path / "x.json", tmp_path, number=number)


def test_cvat_s_track_ids(load_frames) -> None:
    """CVAT writes `"attributes": {"occluded": false, "track_id": 3, "keyframe": true}`."""
    names = ["frame_000000.PNG", "frame_000001.PNG"]
    content = plain(names, attributes={"occluded": False, "track_id": 3, "keyframe": True})
    content["annotations"][1]["attributes"] = {"occluded": False}
    dicts = load_frames(names, content)
    assert [d["annotations"][0].get("track_id") for d in dicts] == [3, None]


def test_a_track_id_of_minus_one_is_none(load_frames) -> None:
    dicts = load_frames(["a_1.jpg"], plain(["a_1.jpg"], track_id=-1))
    assert "track_id" not in dicts[0]["annotations"][0]


def test_areas_are_kept(load_frames) -> None:
    dicts = load_frames(["a_1.jpg"], plain(["a_1.jpg"], area=123.5))
    assert dicts[0]["annotations"][0]["area"] == 123.5


@pytest.mark.parametrize("area", ["x", [1], 1e400, 10**400, True])
def test_areas_that_are_none(load_frames, area: Any) -> None:
    with pytest.raises(ValueError, match=r"annotations id 0: 'area' must be 1 finite number"):
        load_frames(["a_1.jpg"], plain(["a_1.jpg"], area=area))


def test_polygons_of_two_points_cost_a_mask_and_no_box(load_frames, caplog) -> None:
    triangle = [4, 6, 24, 6, 24, 30]
    content = plain(["a_1.jpg", "a_2.jpg"], segmentation=[[4, 6, 24, 30]])
    content["annotations"][1]["segmentation"] = [[4, 6, 24, 30], triangle]
    with caplog.at_level("INFO", "iff_detectron2"):
        first, second = (d["annotations"][0] for d in load_frames(["a_1.jpg", "a_2.jpg"], content))
    assert "segmentation" not in first
    assert second["segmentation"] == [triangle]
    assert "left out 2 polygons of fewer than three points (first in " in caplog.text


def test_categories_of_one_name_are_one_class(load_frames, caplog) -> None:
    """Roboflow gives the group and the class the same name."""
    content = plain(["a_1.jpg", "a_2.jpg"])
    content["categories"].insert(0, {"id": 0, "name": "ball", "supercategory": "none"})
    content["annotations"][1]["category_id"] = 0
    with caplog.at_level("INFO", "iff_detectron2"):
        dicts = load_frames(["a_1.jpg", "a_2.jpg"], content)
    assert [d["annotations"][0]["category_id"] for d in dicts] == [0, 0]
    assert MetadataCatalog.get("set").thing_classes == ["ball"]
    assert MetadataCatalog.get("set").thing_dataset_id_to_contiguous_id == {0: 0}
    assert "categories [0, 1] are all named 'ball': one class" in caplog.text


def test_byte_order_mark(load_frames, write_json, frame_files) -> None:
    frame_files("a_1.jpg")
    path = write_json(plain(["a_1.jpg"]))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    register_coco_frames("set", path, path.parent)
    assert len(DatasetCatalog.get("set")) == 1


def test_an_at_in_paths(tmp_path: Path) -> None:
    root = tmp_path / "me@home"
    root.mkdir()
    (root / "a_1.jpg").touch()
    for name in ("x.json", "x@y.json"):
        (root / name).write_text(json.dumps(plain(["a_1.jpg"])))
    escaped = str(root).replace("@", "@@")
    register_from_specs(
        [
            f"plain=coco_frames:{escaped}@{escaped}/x.json@annotated_only",
            f"file=coco_frames:{escaped}@{escaped}/x@@y.json",
        ]
    )
    assert DatasetCatalog.get("plain") == DatasetCatalog.get("file")
    assert DatasetCatalog.get("file")[0]["file_name"] == f"{root}/a_1.jpg"


@pytest.mark.parametrize("missing", [False, True])
def test_sets_without_labels(load_frames, missing: bool) -> None:
    content: dict[str, Any] = {**plain(["a_1.jpg"]), "annotations": None}
    if missing:
        del content["annotations"]
    dicts = load_frames(["a_1.jpg"], content)
    assert "annotations" not in dicts[0]
    assert MetadataCatalog.get("set").thing_classes == ["ball"]
    with pytest.raises(ValueError, match=r"'set' has no labels .*can only be predicted on"):
        VIDEvaluator("set")
    cfg = get_cfg()
    add_iff_config(cfg)
    cfg.DATASETS.TRAIN = ("set",)
    with pytest.raises(ValueError, match=r"'set' has no labels .*can only be predicted on"):
        TrainingStream.from_config(cfg, mapper=lambda sample: sample)


def test_nesting_without_end_is_named(tmp_path: Path) -> None:
    path = tmp_path / "deep.json"
    path.write_text("[" * 200_000)
    register_coco_vid("set", path, tmp_path)
    with pytest.raises(ValueError, match=r"deep\.json is not usable JSON: it is nested too deeply"):
        DatasetCatalog.get("set")


def youtube_vis(**track: Any) -> dict[str, Any]:
    """Return two frames and one track, as OVIS, UVO and LV-VIS have them."""
    video = {"id": 1, "width": 64, "height": 48, "length": 2, "file_names": ["v/3.jpg", "v/8.jpg"]}
    record = {"id": 5, "video_id": 1, "category_id": 7, "iscrowd": 0, **track}
    return {"videos": [video], "categories": [{"id": 7, "name": "cat"}], "annotations": [record]}


def test_ovis_validation_has_no_annotations(write_json) -> None:
    path = write_json({**youtube_vis(), "annotations": None})
    register_youtube_vis("set", path, path.parent, unlisted_frames="none")
    dicts = DatasetCatalog.get("set")
    assert [(d["frame_index"], d["frame_number"]) for d in dicts] == [(0, 3), (1, 8)]
    assert not any("annotations" in d for d in dicts)


def test_lv_vis_has_compressed_masks_and_areas(write_json) -> None:
    mask = np.zeros((48, 64), np.uint8, order="F")
    mask[6:30, 4:24] = 1
    rle = mask_util.encode(mask)
    segmentation = {"size": [48, 64], "counts": rle["counts"].decode()}
    content = youtube_vis(
        segmentations=[None, segmentation], bboxes=[None, [4, 6, 20, 24]], areas=[None, 480]
    )
    path = write_json(content)
    register_youtube_vis("set", path, path.parent, unlisted_frames="none")
    dicts = DatasetCatalog.get("set")
    assert [len(d["annotations"]) for d in dicts] == [0, 1]
    (annotation,) = dicts[1]["annotations"]
    assert (annotation["bbox"], annotation["area"]) == ([4, 6, 24, 30], 480)
    np.testing.assert_array_equal(mask_util.decode(annotation["segmentation"]), mask)


def test_tao(write_json) -> None:
    """TAO: `frame_index` in the film, a list of tracks, one frame in 30 is labelled."""
    video = "train/YFCC100M/v_f69ebe5b731d3e87c1a3992ee39c3b7e"
    images = [
        {
            "id": k,
            "video": video,
            "_scale_task_id": "5de800eddb2c18001a56aa11",
            "width": 640,
            "height": 480,
            "file_name": f"{video}/frame{n:04d}.jpg",
            "frame_index": n - 1,
            "license": 0,
            "video_id": 0,
            "neg_category_ids": [342],
            "not_exhaustive_category_ids": [],
        }
        for k, n in enumerate((391, 421, 451))
    ]
    box = [200.0, 20.5, 100.0, 50.0]
    x, y, w, h = box
    annotations = [
        {
            "id": k,
            "image_id": k,
            "category_id": 95,
            "scale_uuid": "x",
            "track_id": 0,
            "video_id": 0,
            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
            "iscrowd": 0,
            "area": w * h,
            "bbox": box,
        }
        for k in range(3)
    ]
    content = {
        "videos": [{"id": 0, "name": video, "width": 640, "height": 480}],
        "annotations": annotations,
        "tracks": [{"id": 0, "category_id": 95, "video_id": 0}],
        "images": images,
        "info": {},
        "categories": [{"id": 95, "name": "bus", "synset": "bus.n.01", "synonyms": ["bus"]}],
        "licenses": [],
    }
    path = write_json(content)
    register_coco_vid("set", path, path.parent, unlisted_frames="none")
    dicts = DatasetCatalog.get("set")
    assert [(d["frame_number"], d["frame_index"]) for d in dicts] == [(390, 0), (420, 1), (450, 2)]
    assert [a["bbox"] for d in dicts for a in d["annotations"]] == [[200, 20.5, 300, 70.5]] * 3
    assert [a["track_id"] for d in dicts for a in d["annotations"]] == [0, 0, 0]


def burst() -> dict[str, Any]:
    mask = np.zeros((48, 64), np.uint8, order="F")
    mask[6:30, 4:24] = 1
    rle = mask_util.encode(mask)["counts"].decode()
    return {
        "split": "train",
        "categories": [{"id": 805, "name": "person"}, {"id": 95, "name": "bus"}],
        "sequences": [
            {
                "id": 0,
                "dataset": "HACS",
                "seq_name": "clip",
                "fps": 1,
                "height": 48,
                "width": 64,
                "all_image_paths": ["f001.jpg", "f002.jpg", "f003.jpg"],
                "annotated_image_paths": ["f001.jpg", "f003.jpg"],
                "segmentations": [{}, {"2": {"rle": rle, "is_gt": True}}],
                "track_category_ids": {"2": 95},
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [],
            }
        ],
    }


def test_burst(write_json) -> None:
    path = write_json(burst())
    register_burst("set", path.parent, path)
    dicts = DatasetCatalog.get("set")
    assert [(d["file_name"], d["frame_index"], d["video_length"]) for d in dicts] == [
        (f"{path.parent}/HACS/clip/f001.jpg", 0, 3),
        (f"{path.parent}/HACS/clip/f003.jpg", 2, 3),
    ]
    assert dicts[0]["annotations"] == []
    (annotation,) = dicts[1]["annotations"]
    assert (annotation["bbox"], annotation["track_id"]) == ([4, 6, 24, 30], 2)
    assert MetadataCatalog.get("set").thing_classes[annotation["category_id"]] == "bus"
    assert mask_util.area(annotation["segmentation"]) == 20 * 24


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"segmentations": [{}]}, r"sequences\[0\]: 'segmentations' must have an entry for each"),
        ({"track_category_ids": {"2": 9}}, "frame 2: track '2' is of the unknown category 9"),
        ({"track_category_ids": {}}, "track_category_ids: '2' must be an integer, got None"),
        ({"seq_name": "../clip"}, "must be a relative path"),
        ({"annotated_image_paths": ["f001.jpg", "f9.jpg"]}, "'f9.jpg' is annotated and not in"),
    ],
)
def test_malformed_burst(write_json, fields: dict[str, Any], message: str) -> None:
    content = burst()
    content["sequences"][0].update(fields)
    path = write_json(content)
    register_burst("set", path.parent, path)
    with pytest.raises(ValueError, match=message):
        DatasetCatalog.get("set")
