"""Pictures of adaptation: what is where, and when they are made."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from toy_models import build, make_video, randomise_flow, tiny_cfg, window_sample

from iff_detectron2.engine.adaptation_panels import AdaptationPanels, features_picture
from iff_detectron2.modeling.adaptation import (
    Adaptation,
    AdaptedMap,
    build_adaptation_losses,
)


def test_the_picture_shows_spoilt_restored_and_teacher_in_one_scale() -> None:
    spoilt, restored, teacher = (torch.full((1, 2, 4, 6), value) for value in (0.0, 1.5, 3.0))
    picture = features_picture({"p4": AdaptedMap(teacher, spoilt, restored, teacher)})
    assert picture.shape == (160, 720, 3)
    # The energies are 0, 3 and 6.
    grey = np.array([[0, 128, 255]], np.uint8)
    wanted = cv2.applyColorMap(grey, cv2.COLORMAP_VIRIDIS)[0]
    for column, colour in zip((60, 360, 660), wanted, strict=True):
        assert picture[80, column].tolist() == colour.tolist()


class Storage:
    def __init__(self) -> None:
        self.images: dict[str, np.ndarray] = {}

    def put_image(self, name: str, image: np.ndarray) -> None:
        self.images[name] = image


@pytest.mark.parametrize("aggregator", ["FlowGuidedAggregator", "AverageAggregator"])
def test_every_period_a_held_out_clip_is_shown(aggregator) -> None:
    cfg = tiny_cfg("MODEL.IFF.AGGREGATOR", aggregator)
    detector = build(cfg)
    randomise_flow(detector)
    model = Adaptation(detector, build_adaptation_losses(cfg))
    video = make_video(3)
    clip = {**window_sample(video, 1, [-1, 1]), "spoilt_image": video[1] // 3}
    hook = AdaptationPanels(2, lambda: iter([clip]), to_bgr=False)
    hook.trainer = SimpleNamespace(model=model, iter=0, storage=Storage())
    hook.after_step()
    assert not hook.trainer.storage.images
    hook.trainer.iter = 1
    hook.after_step()
    names = {"adapt/features", "adapt/flow"}
    if aggregator == "AverageAggregator":
        names.remove("adapt/flow")
    assert set(hook.trainer.storage.images) == names
    assert all(image.shape[0] == 3 for image in hook.trainer.storage.images.values())
    assert model.training
    assert detector.temporal.training
    assert not detector.backbone.training
