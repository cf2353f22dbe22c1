"""What a training shows of its flow, and when."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from detectron2.engine.train_loop import HookBase, TrainerBase
from detectron2.utils.events import TensorboardXWriter
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_models import build, randomise_flow, tiny_cfg

from iff_detectron2.data import register_imagenet_vid
from iff_detectron2.engine.alignment_panels import AlignmentPanels, weight_bars
from iff_detectron2.engine.window_alignment import WarpError


class Trainer(TrainerBase):
    """Trains nothing."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def run_step(self):
        assert self.model.training


def train(model, cfg, folder):
    trainer, writer = Trainer(model.train()), TensorboardXWriter(str(folder), window_size=1)
    trainer.register_hooks([AlignmentPanels(cfg, model)])

    class Write(HookBase):
        def after_step(self):
            writer.write()

    trainer.register_hooks([Write()])
    trainer.train(0, 4)
    writer.close()
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    assert model.training
    return events


@pytest.fixture
def cfg(tiny_vid, clean_catalogs):
    register_imagenet_vid("panels_val", tiny_vid(lengths=(6, 4)), "VID_val_videos")
    return tiny_cfg("DATASETS.TEST", "('panels_val',)", "VIS_PERIOD", 2)


def test_flow_weights_and_residual_by_vis_period(cfg, tmp_path):
    model = build(cfg)
    events = train(model, cfg, tmp_path / "zero")
    tags = events.Tags()
    assert {"iff/flow", "iff/weights"} <= set(tags["images"])
    assert [e.step for e in events.Images("iff/flow")] == [1, 3]
    # Training starts from zero flow, which leaves the difference as it is.
    assert events.Scalars("iff/residual")[0].value == 1
    picture = np.frombuffer(events.Images("iff/weights")[0].encoded_image_string, np.uint8)
    assert cv2.imdecode(picture, cv2.IMREAD_COLOR).shape == (300, 600, 3)
    randomise_flow(model)
    events = train(model, cfg, tmp_path / "random")
    assert events.Scalars("iff/residual")[0].value != 1


@pytest.mark.parametrize(
    "opts",
    [
        ("VIS_PERIOD", 0),
        ("MODEL.IFF.AGGREGATOR", "SimilarityAggregator"),
        ("TEST.VIDEO.NUM_REFS", 0),
        ("DATASETS.TEST", ()),
    ],
    ids=lambda opts: str(opts[0]),
)
def test_where_there_is_nothing_to_show(cfg, tmp_path, opts):
    cfg.defrost()
    cfg.merge_from_list(list(opts))
    tags = train(build(cfg), cfg, tmp_path).Tags()
    assert tags["images"] == tags["scalars"] == []


def test_bars_are_the_weights():
    errors = [WarpError(o, 1, 1, 1, 1, 0, w) for o, w in ((-2, 0.1), (1, 0.6))]
    bars = weight_bars(errors).axes[0].patches
    assert [(b.get_x() + b.get_width() / 2, b.get_height()) for b in bars] == [
        (pytest.approx(-2), 0.1),
        (pytest.approx(1), 0.6),
    ]
