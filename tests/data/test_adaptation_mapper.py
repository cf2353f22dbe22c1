"""Clips whose key frame is spoilt: what is changed, and what must not be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from PIL import Image

from iff_detectron2 import add_iff_config
from iff_detectron2.data.adaptation_mapper import AdaptationMapper
from iff_detectron2.data.raw_videos import RawVideos, read_raw_videos


@pytest.fixture
def raw(tmp_path: Path) -> RawVideos:
    """Make a folder of eight frames with texture."""
    rng = np.random.default_rng(0)
    for t in range(8):
        pixels = rng.integers(0, 256, (40, 60, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{t}.png")
    return read_raw_videos([tmp_path], held_out=0.25)


@pytest.fixture
def cfg() -> CfgNode:
    """Return a config of small images and two references."""
    cfg = get_cfg()
    add_iff_config(cfg)
    cfg.INPUT.MIN_SIZE_TRAIN = (40,)
    cfg.INPUT.VIDEO.NUM_REFS, cfg.INPUT.VIDEO.MAX_OFFSET = 2, 3
    return cfg


def test_only_the_key_frame_is_spoilt(raw, cfg) -> None:
    cfg.INPUT.RANDOM_FLIP = "none"
    mapper = AdaptationMapper(cfg, frame_index=raw.frame_index)
    sample = mapper(raw.train[2])
    clean = np.asarray(Image.open(raw.train[2]["file_name"]))[:, :, ::-1].transpose(2, 0, 1)
    np.testing.assert_array_equal(sample["image"].numpy(), clean)
    assert sample["spoilt_image"].shape == sample["image"].shape
    assert sample["spoilt_image"].dtype == sample["image"].dtype == torch.uint8
    assert not torch.equal(sample["spoilt_image"], sample["image"])
    for offset, ref in zip(sample["ref_offsets"], sample["ref_images"], strict=True):
        file = raw.train[2 + offset]["file_name"]
        expected = np.asarray(Image.open(file))[:, :, ::-1].transpose(2, 0, 1)
        np.testing.assert_array_equal(ref.numpy(), expected)


def test_the_spoilt_frame_is_flipped_like_the_clean_one(raw, cfg) -> None:
    cfg.MODEL.IFF.ADAPT.DETERIORATIONS = ["darkness"]
    cfg.MODEL.IFF.ADAPT.STRENGTH = [0.0, 0.0]
    mapper = AdaptationMapper(cfg, frame_index=raw.frame_index)
    flipped = 0
    unflipped = np.asarray(Image.open(raw.train[0]["file_name"]))[:, :, ::-1].transpose(2, 0, 1)
    for seed in range(12):
        np.random.seed(seed)  # noqa: NPY002
        sample = mapper(raw.train[0])
        # A deterioration of no strength: both are the same picture.
        assert torch.equal(sample["spoilt_image"], sample["image"])
        flipped += not np.array_equal(sample["image"].numpy(), unflipped)
    assert 0 < flipped < 12


def test_the_seed_decides(raw, cfg) -> None:
    mapper = AdaptationMapper(cfg, frame_index=raw.frame_index)
    images = []
    for seed in (5, 5, 6):
        np.random.seed(seed)  # noqa: NPY002
        images.append(mapper(raw.train[1])["spoilt_image"])
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.IFF.ADAPT.DETERIORATIONS", ["fog"], r"got \['fog'\]"),
        ("MODEL.IFF.ADAPT.STRENGTH", [2.0, 1.0], "range from 0 on"),
        ("INPUT.FORMAT", "L", "INPUT.FORMAT must be BGR or RGB, got L"),
    ],
)
def test_wrong_settings_are_named_before_training(raw, cfg, key, value, message) -> None:
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=message):
        AdaptationMapper(cfg, frame_index=raw.frame_index)
