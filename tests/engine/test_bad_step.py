"""A loss that is no number ends the training with names, and can be had again."""

from __future__ import annotations

import math

import pytest
import torch
from toy_models import tiny_cfg

from iff_detectron2.data import register_imagenet_vid
from iff_detectron2.engine import VideoTrainer


@pytest.fixture
def cfg(tiny_vid, clean_catalogs, tmp_path):
    register_imagenet_vid("bad_train", tiny_vid(lengths=(6,)), "VID_train_15frames")
    return tiny_cfg(
        *("DATASETS.TRAIN", ("bad_train",), "DATASETS.TEST", (), "MODEL.WEIGHTS", ""),
        *("MODEL.ROI_HEADS.NUM_CLASSES", 30, "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", 3),
        *("DATALOADER.NUM_WORKERS", 0, "OUTPUT_DIR", str(tmp_path), "TEST.EVAL_PERIOD", 0),
    )


def train(cfg, resume, monkeypatch, broken_step):
    """Train with a loss that is lost at a step; return the batches seen, and the error."""
    trainer = VideoTrainer(cfg)
    trainer.resume_or_load(resume)
    forward, seen = trainer.model.forward, []

    def broken(batch):
        seen.append(batch)
        losses = forward(batch)
        if trainer.iter == broken_step:
            losses["loss_cls"] = losses["loss_cls"] * math.nan
        return losses

    monkeypatch.setattr(trainer.model, "forward", broken)
    with pytest.raises(FloatingPointError) as error:
        trainer.train()
    return seen, str(error.value)


def test_it_is_named_and_repeated(cfg, tmp_path, monkeypatch):
    seen, message = train(cfg, False, monkeypatch, 1)
    assert len(seen) == 2
    assert message.startswith("step 1: loss_cls not finite; it was made from ")
    for sample in seen[1]:
        assert f"{sample['file_name']} with reference frames at {sample['ref_offsets']}" in message
    assert "bad_step_0000001.pth" in message

    (tmp_path / "last_checkpoint").write_text("bad_step_0000001.pth")
    again, repeated = train(cfg, True, monkeypatch, 1)
    assert repeated == message
    assert len(again) == 1
    for one, other in zip(again[0], seen[1], strict=True):
        assert torch.equal(one["image"], other["image"])
        assert all(map(torch.equal, one["ref_images"], other["ref_images"]))


def test_weights_that_are_lost_already_are_told_apart(cfg, monkeypatch):
    trainer = VideoTrainer(cfg)
    trainer.resume_or_load(False)
    with torch.no_grad():
        trainer.model.backbone.reduction.weight.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="1 weights were not finite before it"):
        trainer.train()
