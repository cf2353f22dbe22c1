"""Detectron2's stock loaders with our mapper and sampler."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import (
    DatasetCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)

from iff_detectron2 import add_iff_config
from iff_detectron2.data import (
    StreamLoader,
    VIDDatasetMapper,
    VideoInferenceSampler,
    dataset_mapper,
    listed_frames,
    register_imagenet_vid,
)

pytestmark = pytest.mark.usefixtures("clean_catalogs")


@pytest.fixture
def cfg():
    cfg = get_cfg()
    add_iff_config(cfg)
    cfg.INPUT.MIN_SIZE_TRAIN = (48,)
    cfg.INPUT.MIN_SIZE_TEST = 48
    cfg.INPUT.FORMAT = "RGB"
    cfg.TEST.VIDEO.NUM_REFS = 4
    return cfg


def test_training_with_workers(tiny_vid, cfg) -> None:
    empty = {(0, frame) for frame in range(12) if frame % 3}
    tiny_vid(lengths=(12, 1), stills=2, empty=empty)
    register_imagenet_vid("vid", tiny_vid.root, "VID_train_15frames")
    register_imagenet_vid("det", tiny_vid.root, "DET_train_30classes")
    cfg.DATASETS.TRAIN = ("vid", "det")
    dicts = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, filter_empty=True)
    assert len(dicts) == 4 + 1 + 2
    loader = build_detection_train_loader(
        dicts,
        mapper=VIDDatasetMapper(cfg, is_train=True),
        total_batch_size=2,
        aspect_ratio_grouping=True,
        num_workers=2,
    )
    torch.manual_seed(0)
    neighbours, stills, lone = set(), 0, 0
    for batch in itertools.islice(loader, 30):
        assert len(batch) == 2
        for sample in batch:
            assert len(sample["instances"]) == 1
            assert len(sample["ref_images"]) == len(sample["ref_offsets"]) == 2
            assert all(ref.shape == sample["image"].shape for ref in sample["ref_images"])
            if "video_id" not in sample:
                stills += 1
                assert sample["ref_offsets"] == [0, 0]
            elif sample["video_length"] == 1:
                lone += 1
                assert sample["ref_offsets"] == [0, 0]
            else:
                neighbours |= {sample["frame_index"] + k for k in sample["ref_offsets"]}
    assert stills > 0
    assert lone > 0
    assert neighbours & {frame for _, frame in empty}  # filtered frames still serve


def test_loader_from_config(tiny_vid, cfg) -> None:
    register_imagenet_vid("vid", tiny_vid(lengths=(6,)), "VID_train_15frames")
    cfg.DATASETS.TRAIN = ("vid",)
    cfg.SOLVER.IMS_PER_BATCH = 3
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.INPUT.VIDEO.NUM_REFS = 3
    cfg.INPUT.VIDEO.MAX_OFFSET = 1
    loader = build_detection_train_loader(cfg, mapper=VIDDatasetMapper(cfg, is_train=True))
    batch = next(iter(loader))
    assert [len(sample["ref_images"]) for sample in batch] == [3, 3, 3]
    assert {abs(k) for sample in batch for k in sample["ref_offsets"]} == {1}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("window", [(4, 1, False), (2, 3, False), (3, 2, True)], ids=str)
def test_a_stream_reads_each_frame_once(tiny_vid, cfg, monkeypatch, num_workers, window) -> None:
    """Frames that are not listed, and windows with gaps, too; the samples are the mapper's own."""
    tiny_vid(lengths=(3, 9, 1), empty={(1, 2)})
    register_imagenet_vid("vid", tiny_vid.root, "VID_val_videos")
    video = cfg.TEST.VIDEO
    video.STREAMING, (video.NUM_REFS, video.STRIDE, video.CAUSAL) = True, window
    dicts = get_detection_dataset_dicts("vid", filter_empty=False)
    del dicts[6:8]  # of the nine frames of the second video
    mapper = VIDDatasetMapper(cfg, is_train=False, dataset_names=("vid",))
    mapper.listed_frames = listed_frames(dicts)
    loader = StreamLoader(dicts, mapper, VideoInferenceSampler(dicts), num_workers)
    expected = [mapper(dicts[position]) for position in VideoInferenceSampler(dicts)]
    read: list[str] = []
    read_frame = dataset_mapper.read_frame
    monkeypatch.setattr(
        dataset_mapper,
        "read_frame",
        lambda name, *args: read.append(name) or read_frame(name, *args),
    )
    samples = [sample for (sample,) in loader]
    assert len(loader) == len(samples) == len(expected) == 11
    used = {(s["video_id"], s["frame_index"] + k) for s in expected for k in (0, *s["ref_offsets"])}
    if not num_workers:  # else they are read in other processes
        assert len(read) == len({*read}) == len(used)
    for sample, own in zip(samples, expected, strict=True):
        assert sample.keys() == own.keys()
        assert torch.equal(sample.pop("image"), own.pop("image"))
        for ref, own_ref in zip(sample.pop("ref_images"), own.pop("ref_images"), strict=True):
            assert torch.equal(ref, own_ref)
        assert sample == own


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("streaming", [False, True])
def test_testing_keeps_videos_in_order(tiny_vid, cfg, num_workers: int, streaming: bool) -> None:
    tiny_vid(lengths=(3, 5, 1), empty={(1, 2)})
    register_imagenet_vid("vid", tiny_vid.root, "VID_val_videos")
    cfg.TEST.VIDEO.STREAMING = streaming
    dicts = get_detection_dataset_dicts("vid", filter_empty=False)
    loader = build_detection_test_loader(
        dicts,
        mapper=VIDDatasetMapper(cfg, is_train=False, dataset_names=("vid",)),
        sampler=VideoInferenceSampler(dicts),
        num_workers=num_workers,
    )
    assert len(loader) == 9
    samples = [sample for (sample,) in loader]
    assert [sample["image_id"] for sample in samples] == list(range(1, 10))
    if streaming:
        assert [sample["ref_offsets"] for sample in samples] == [
            [1, 2],
            [],
            [],
            [1, 2],
            [2],
            [2],
            [],
            [],
            [],
        ]
    else:
        assert all(len(sample["ref_images"]) == 4 for sample in samples)


def test_two_test_sets_may_hold_one_video(mot_sequence, cfg) -> None:
    from iff_detectron2.data import register_from_specs

    folder = mot_sequence(length=6)
    register_from_specs([f"a=mot_challenge:{folder}@1-4", f"b=mot_challenge:{folder}@5-6"])
    cfg.DATASETS.TEST = ("a", "b")
    for name, length in (("a", 4), ("b", 2)):
        mapper = VIDDatasetMapper(cfg, is_train=False, dataset_names=name)
        assert {mapper(d)["video_length"] for d in DatasetCatalog.get(name)} == {length}


def test_workers_draw_differently_and_repeatably(tiny_vid, cfg) -> None:
    register_imagenet_vid("vid", tiny_vid(lengths=(12,)), "VID_train_15frames")
    cfg.DATASETS.TRAIN = ("vid",)
    dicts = get_detection_dataset_dicts("vid")

    def offsets() -> list[list[int]]:
        torch.manual_seed(3)
        np.random.seed(3)  # noqa: NPY002
        loader = build_detection_test_loader(
            [dicts[6]] * 12, mapper=VIDDatasetMapper(cfg, is_train=True), num_workers=2
        )
        return [sample["ref_offsets"] for (sample,) in loader]

    first = offsets()
    assert len({tuple(refs) for refs in first}) > 2
    assert first == offsets()
