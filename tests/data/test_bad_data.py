"""DATALOADER.BAD_DATA: damaged frames and labels end a training, or are named once and counted."""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path

import pytest
from detectron2.data import DatasetCatalog
from toy_models import tiny_cfg

from iff_detectron2.data import register_from_specs, register_imagenet_vid
from iff_detectron2.data.datasets.imagenet import annotation_reader
from iff_detectron2.engine import VideoTrainer
from iff_detectron2.evaluation import EvaluationDataset

pytestmark = pytest.mark.usefixtures("clean_catalogs")

DAMAGED = {"image": "train/video_0/000001", "labels": "train/video_1/000002"}


@pytest.fixture
def root(tiny_vid, tmp_path, monkeypatch) -> Path:
    """Two videos of 4 frames, with a JPEG that is cut off and an XML file that is."""
    monkeypatch.setenv("IFF_DETECTRON2_CACHE", str(tmp_path / "cache"))
    root = tiny_vid(lengths=(4, 4))
    for path in (
        root / f"Data/VID/{DAMAGED['image']}.JPEG",
        root / f"Annotations/VID/{DAMAGED['labels']}.xml",
    ):
        path.write_bytes(path.read_bytes()[:100])
    register_imagenet_vid("bad", root, "VID_train_15frames")
    return root


@pytest.fixture(autouse=True)
def warnings(caplog):
    logging.getLogger("iff_detectron2").propagate = True
    with caplog.at_level(logging.WARNING):
        # One record each, however many handlers see it.
        yield lambda word: {id(r) for r in caplog.records if word in r.getMessage()}


def config(*opts):
    sizes = (
        "INPUT.MIN_SIZE_TRAIN",
        "(48,)",
        "SOLVER.IMS_PER_BATCH",
        2,
        "DATALOADER.NUM_WORKERS",
        0,
    )
    return tiny_cfg("DATASETS.TRAIN", "('bad',)", "INPUT.VIDEO.NUM_REFS", 2, *sizes, *opts)


SKIP = ("DATALOADER.BAD_DATA", "skip")


@pytest.mark.parametrize("cached", [False, True])
def test_a_damaged_image_and_damaged_labels_are_named_once(root, warnings, monkeypatch, cached):
    if cached:
        monkeypatch.setattr(annotation_reader, "_CACHE_FROM", 2)
    stream = VideoTrainer.build_train_loader(config(*SKIP))
    stream.begin(0, 0)
    samples = [sample for batch in islice(stream, 30) for sample in batch]
    image, labels = root / f"Data/VID/{DAMAGED['image']}.JPEG", f"{DAMAGED['labels']}.xml"
    # It is a reference frame of others, which makes it no other file.
    assert set(stream.bad_files) == {str(image), str(root / f"Data/VID/{DAMAGED['labels']}.JPEG")}
    assert len(warnings(str(image))) == 1
    assert len(warnings(labels)) == 1
    seen = {sample["file_name"] for sample in samples}
    # Whose every neighbour is near enough has met it; the others of the videos are there.
    assert not any(name in file for name in DAMAGED.values() for file in seen)
    assert len(seen) >= 5
    # Where the labels alone are damaged, the frame still serves as reference frame.
    refs = {(s["video_id"], s["frame_index"] + k) for s in samples for k in s["ref_offsets"]}
    assert ("train/video_1", 2) in refs


def test_they_end_a_training_otherwise(root):
    with pytest.raises(ValueError, match=rf"{DAMAGED['labels']}\.xml"):
        VideoTrainer.build_train_loader(config())


def test_a_cache_of_a_skipping_training_hides_nothing(root, monkeypatch):
    monkeypatch.setattr(annotation_reader, "_CACHE_FROM", 2)
    VideoTrainer.build_train_loader(config(*SKIP))
    register_imagenet_vid("again", root, "VID_train_15frames")
    with pytest.raises(ValueError, match=rf"{DAMAGED['labels']}\.xml"):
        DatasetCatalog.get("again")
    path = root / f"Annotations/VID/{DAMAGED['labels']}.xml"
    path.write_bytes((root / "Annotations/VID/train/video_1/000001.xml").read_bytes())
    assert len(DatasetCatalog.get("again")) == 8


def test_labels_count_against_the_limit(root):
    with pytest.raises(OSError, match=r"1 images cannot be read, more than DATALOADER"):
        VideoTrainer.build_train_loader(config(*SKIP, "DATALOADER.BAD_DATA_LIMIT", 0))


def test_what_is_incomplete_is_not_scored(root):
    VideoTrainer.build_train_loader(config(*SKIP))
    with pytest.raises(ValueError, match=r"1 images .* cannot be scored.*/000002\.xml"):
        EvaluationDataset.load("bad")


def test_yolo_labels_are_of_one_image_too(tiny_vid, tmp_path):
    root = tmp_path / "yolo"
    for frame in range(4):
        tiny_vid.write_image(root / f"images/train/a_{frame}.jpg", tiny_vid.pixels(0, frame))
        label = root / f"labels/train/a_{frame}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.2 0.2\n" if frame != 2 else "0 0.5 0.")
    (root / "data.yaml").write_text("train: images/train\nnames: [dog]\n")
    register_from_specs([f"bad=yolo:{root}"])
    with pytest.raises(ValueError, match=r"a_2\.txt"):
        DatasetCatalog.get("bad")
    stream = VideoTrainer.build_train_loader(config(*SKIP))
    assert set(stream.bad_files) == {str(root / "images/train/a_2.jpg")}
    labelled = [d["file_name"] for d in DatasetCatalog.get("bad") if d["annotations"]]
    assert [Path(name).stem for name in labelled] == ["a_0", "a_1", "a_3"]
