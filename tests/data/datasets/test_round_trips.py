"""A generated set, written in each format and read back: the same boxes, ids, classes, order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import COCOEvaluator, DatasetEvaluators
from detectron2.structures import Boxes, Instances
from format_writers import STAND_INS, WRITERS, Split, generate_split

from iff_detectron2.data import (
    VIDDatasetMapper,
    listed_frames,
    read_frame,
    register_from_specs,
    register_mot_challenge,
)
from iff_detectron2.data.datasets.mot.challenge import MOT_CLASSES
from iff_detectron2.data.moving_shapes import MOVING_SHAPES_CLASSES
from iff_detectron2.evaluation import VIDEvaluator
from iff_detectron2.structures import TemporalWindow

pytestmark = pytest.mark.usefixtures("clean_catalogs")

FORMATS = list(WRITERS)
TRACKED = [name for name in FORMATS if name != "coco_frames"]
BY_TRACK = ("youtube_vis", "cvat_video", "label_studio")
ANNOTATED_ONLY = (
    *("mot_challenge", "visdrone", "kitti_tracking", "ua_detrac"),
    *("cvat_mot", "cvat_video", "label_studio"),
)
FROM_1 = ("mot_challenge", "visdrone", "ua_detrac", "cvat_mot", "label_studio")


@pytest.fixture(scope="module")
def split(tmp_path_factory) -> Split:
    """Videos of 20 frames, of which 15 are listed; the others have no label."""
    split = generate_split(tmp_path_factory.mktemp("generated"))
    assert len(split.dicts) == 45
    assert sum(len(d["annotations"]) for d in split.dicts) > 45
    return split


@pytest.fixture(scope="module")
def spec_of(split, tmp_path_factory):
    """Return the spec of the set in a format; written once."""
    written: dict[str, str] = {}

    def spec(name: str) -> str:
        if name not in written:
            written[name] = WRITERS[name](split, tmp_path_factory.mktemp(name))
        return written[name]

    return spec


def register(format_name: str, spec: str, **options: Any) -> list[dict]:
    """Register as `set`; MOTChallenge's other classes have no spec."""
    if format_name == "mot_challenge":
        classes = list(MOT_CLASSES.values())[: len(MOVING_SHAPES_CLASSES)]
        register_mot_challenge("set", spec.partition(":")[2], classes=classes, **options)
    else:
        register_from_specs([f"set={spec}"])
    return DatasetCatalog.get("set")


def comparable(dicts: Sequence[dict], tracks: bool, names: Sequence[str]) -> list:
    """Frames and objects in order, video and track ids by the order of their first appearance.

    Boxes are rounded to 1e-6 pixels, since some formats have them as parts of the image.
    """
    videos: dict[str, int] = {}
    numbers: dict[tuple, int] = {}
    result = []
    for d in dicts:
        video = videos.setdefault(d["video_id"], len(videos))
        objects = [
            (
                tuple(np.round(a["bbox"], 6).tolist()),
                a["bbox_mode"],
                names[a["category_id"]],
                numbers.setdefault((video, a["track_id"]), len(numbers)) if tracks else None,
            )
            for a in d["annotations"]
        ]
        result.append((video, d["frame_index"], d["height"], d["width"], objects))
    return result


def in_tracks(dicts: Sequence[dict]) -> list[dict]:
    """Return the objects of each frame by track, for formats that list track by track."""
    first: dict[tuple, int] = {}
    for d in dicts:
        for a in d["annotations"]:
            first.setdefault((d["video_id"], a["track_id"]), len(first))
    return [
        {**d, "annotations": sorted(d["annotations"], key=lambda a: first[v, a["track_id"]])}
        for d in dicts
        for v in [d["video_id"]]
    ]


def classes_of(dicts: Sequence[dict]) -> set[int]:
    return {a["category_id"] for d in dicts for a in d["annotations"]}


@pytest.mark.parametrize("format_name", FORMATS)
def test_written_and_read_back(split: Split, spec_of, format_name: str) -> None:
    dicts = register(format_name, spec_of(format_name))
    expected = in_tracks(split.dicts) if format_name in BY_TRACK else split.dicts
    tracks = format_name in TRACKED
    if format_name in ANNOTATED_ONLY:  # a frame without a line is not listed
        expected = [d for d in expected if d["annotations"]]
    classes = MetadataCatalog.get("set").thing_classes
    names = STAND_INS.get(format_name, MOVING_SHAPES_CLASSES)
    assert comparable(dicts, tracks, classes) == comparable(expected, tracks, names)
    first = 1 if format_name in FROM_1 else 0
    assert [d["frame_number"] - d["frame_index"] for d in dicts] == [first] * len(dicts)
    if not tracks:
        assert not any("track_id" in a for d in dicts for a in d["annotations"])
    if format_name in ("coco_vid", "coco_frames", "video_files"):
        assert [d["image_id"] for d in dicts] == [d["image_id"] for d in split.dicts]
    assert len({d["image_id"] for d in dicts}) == len(dicts)
    if format_name in ("label_studio", "via_csv"):  # the classes that occur, in their order
        assert classes == sorted({MOVING_SHAPES_CLASSES[c] for c in classes_of(split.dicts)})
    elif format_name not in STAND_INS:
        assert classes == list(MOVING_SHAPES_CLASSES)


@pytest.mark.parametrize("format_name", FORMATS)
def test_unlabelled_frames_are_refs(split: Split, spec_of, format_name: str) -> None:
    """15 of the 20 frames of a video are listed, the first and the last among them."""
    dicts = register(format_name, spec_of(format_name))
    index = MetadataCatalog.get("set").frame_index()
    for frames, files in zip(index.values(), split.videos.values(), strict=True):
        assert len(frames) == len(files) == 20
        for frame, file in zip(frames, files, strict=True):
            np.testing.assert_array_equal(read_frame(frame, "BGR"), cv2.imread(file))
    assert {d["video_length"] for d in dicts} == {20}
    mapper = VIDDatasetMapper(
        is_train=False,
        augmentations=[],
        image_format="BGR",
        frame_index=index,
        window=TemporalWindow(6),
    )
    sample = mapper(dicts[1])
    files = split.videos[split.dicts[1]["video_id"]]
    t = dicts[1]["frame_index"]
    unlisted = {f for f in range(20) if f not in listed_frames(dicts)[dicts[1]["video_id"]]}
    assert unlisted & {t + offset for offset in sample["ref_offsets"]}
    for ref, offset in zip(sample["ref_images"], sample["ref_offsets"], strict=True):
        expected = cv2.imread(files[t + offset if t + offset >= 0 else 0])
        np.testing.assert_array_equal(ref.permute(1, 2, 0).numpy(), expected)


def perfect(annotations: Sequence[dict], size: tuple[int, int]) -> Instances:
    instances = Instances(size)
    instances.pred_boxes = Boxes(torch.tensor([a["bbox"] for a in annotations]).reshape(-1, 4))
    instances.pred_classes = torch.tensor([a["category_id"] for a in annotations], dtype=int)
    instances.scores = torch.ones(len(annotations))
    return instances


@pytest.mark.parametrize("format_name", FORMATS)
def test_evaluator_scores_every_format(
    split: Split, spec_of, tmp_path: Path, caplog, format_name: str
) -> None:
    """The truth as detections, without its first half: recall of what is left, whatever the
    format; motion rows need track ids."""
    dicts = register(format_name, spec_of(format_name))
    evaluator = VIDEvaluator("set", output_dir=tmp_path)
    for number, d in enumerate(dicts):
        found = d["annotations"] if number >= len(dicts) // 2 else []
        evaluator.process([d], [{"instances": perfect(found, (d["height"], d["width"]))}])
    with caplog.at_level("INFO"):
        metrics = evaluator.evaluate()["bbox"]
    assert 0 < metrics["mAP50"] < 100
    motion = [metrics[f"mAP50-{name}"] for name in ("slow", "medium", "fast")]
    if format_name in TRACKED:
        assert np.isfinite(motion).any()
    else:
        assert np.isnan(motion).all()
        assert "track_id is missing in" in (tmp_path / "results.txt").read_text()


def test_the_formats_score_alike(split: Split, spec_of) -> None:
    """Four descriptions of one set give one mean average precision."""
    scores = {}
    for name in ("coco_vid", "youtube_vis", "coco_frames", "video_files"):
        register_from_specs([f"{name}_set={spec_of(name)}"])
        dicts = DatasetCatalog.get(f"{name}_set")
        evaluator = VIDEvaluator(f"{name}_set")
        for number, d in enumerate(dicts):
            found = d["annotations"][number % 2 :]
            evaluator.process([d], [{"instances": perfect(found, (d["height"], d["width"]))}])
        scores[name] = evaluator.evaluate()["bbox"]["mAP50"]
    # YouTube-VIS orders the objects of a frame by track, so it leaves out others.
    assert scores["coco_vid"] == scores["coco_frames"] == scores["video_files"]
    assert 0 < scores["youtube_vis"] < 100


def test_coco_evaluator_stands_beside_ours(split: Split, spec_of, tmp_path: Path) -> None:
    register("coco_vid", spec_of("coco_vid"))
    evaluators = DatasetEvaluators(
        [
            COCOEvaluator("set", tasks=("bbox",), output_dir=str(tmp_path), use_fast_impl=False),
            VIDEvaluator("set", task="vid"),
        ]
    )
    evaluators.reset()
    for d in DatasetCatalog.get("set"):
        size = (d["height"], d["width"])
        evaluators.process([d], [{"instances": perfect(d["annotations"], size)}])
    results = evaluators.evaluate()
    assert results["bbox"]["AP50"] == pytest.approx(100, abs=1e-3)
    assert results["vid"]["mAP50"] == pytest.approx(100)
