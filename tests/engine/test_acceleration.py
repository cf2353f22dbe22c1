"""A model made fast for inference computes what it computed before."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn
from toy_models import tiny_cfg
from video_runs import SIZES, make_frames, make_model

from iff_detectron2.engine import VideoPredictor
from iff_detectron2.engine.acceleration import prepare_for_inference
from iff_detectron2.layers import DeformConv2d


def norms(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, (FrozenBatchNorm2d, nn.BatchNorm2d))]


def randomise_statistics(model: nn.Module) -> nn.Module:
    for norm in norms(model):
        if norm.running_mean is None:
            continue
        for name, low, high in (
            *(("weight", 0.5, 1.5), ("bias", -0.5, 0.5)),
            *(("running_mean", -0.5, 0.5), ("running_var", 0.5, 2.0)),
        ):
            getattr(norm, name).data.uniform_(low, high)
    return model


def convolution(norm: nn.Module | None) -> nn.Module:
    return Conv2d(3, 6, 3, padding=1, bias=norm is None, norm=norm, activation=torch.relu)


@pytest.mark.parametrize(
    ("norm", "folded"),
    [
        (FrozenBatchNorm2d(6), True),
        (nn.BatchNorm2d(6), True),
        (nn.BatchNorm2d(6, track_running_stats=False), False),
        (nn.GroupNorm(2, 6), False),
        (None, True),
    ],
    ids=["frozen", "batch norm", "no statistics", "group norm", "none"],
)
def test_a_norm_with_fixed_statistics_becomes_part_of_the_weights(norm, folded):
    torch.manual_seed(0)
    plain = randomise_statistics(convolution(norm).double()).eval()
    prepared = prepare_for_inference(copy.deepcopy(plain))
    x = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    torch.testing.assert_close(prepared(x), plain(x), rtol=1e-12, atol=1e-12)
    assert (prepared.norm is None) == folded


def test_a_norm_of_a_deformable_convolution_becomes_part_of_it():
    torch.manual_seed(0)
    plain = DeformConv2d(3, 6, 3, padding=1, bias=False, norm=FrozenBatchNorm2d(6)).double()
    randomise_statistics(plain)
    prepared = prepare_for_inference(copy.deepcopy(plain))
    x = torch.randn(1, 3, 7, 9, dtype=torch.float64)
    offset = torch.randn(1, plain.offset_channels(), 7, 9, dtype=torch.float64)
    torch.testing.assert_close(prepared(x, offset), plain(x, offset), rtol=1e-12, atol=1e-12)
    assert prepared.norm is None


def test_a_predictor_of_its_own_model_gives_the_results_of_the_plain_one(tmp_path):
    model = randomise_statistics(make_model())
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    own = VideoPredictor(tiny_cfg(*SIZES, "MODEL.WEIGHTS", str(tmp_path / "weights.pth")))
    plain = VideoPredictor(tiny_cfg(*SIZES), model)
    assert not norms(own.model)
    assert norms(model)
    frames = make_frames(7)
    for (_, _, fast), (_, _, slow) in zip(own(frames), plain(frames), strict=True):
        assert len(slow) > 0
        torch.testing.assert_close(fast.scores, slow.scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(
            fast.pred_boxes.tensor, slow.pred_boxes.tensor, rtol=0, atol=1e-3
        )
