"""A model made fast for inference computes what it computed before."""

from __future__ import annotations

import copy
import functools
import json

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn
from toy_models import tiny_cfg
from video_runs import SIZES, command, make_frames, make_model, write_frames

from iff_detectron2.cli.main import main
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


class Statistics(nn.BatchNorm2d):
    """Normalises by the batch at hand, in testing too."""

    def forward(self, x):
        return nn.functional.batch_norm(x, None, None, self.weight, self.bias, True)


class Standardised(Conv2d):
    """Standardises its weights before it convolves, as big transfer's nets do."""

    def forward(self, x):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self.norm(self._conv_forward(x, weight, self.bias))


def hooked(convolution: nn.Module) -> nn.Module:
    convolution.norm.register_forward_pre_hook(lambda module, args: (2 * args[0],))
    return convolution


@pytest.mark.parametrize(
    "make",
    [
        lambda: convolution(Statistics(6)),
        lambda: Standardised(3, 6, 3, padding=1, bias=False, norm=FrozenBatchNorm2d(6)),
        lambda: hooked(convolution(FrozenBatchNorm2d(6))),
    ],
    ids=["another norm", "another convolution", "a hook"],
)
def test_what_computes_something_else_is_not_folded(make):
    torch.manual_seed(0)
    plain = randomise_statistics(make().double()).eval()
    prepared = prepare_for_inference(copy.deepcopy(plain))
    x = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    torch.testing.assert_close(prepared(x), plain(x), rtol=1e-12, atol=1e-12)
    assert prepared.norm is not None


@pytest.fixture
def captured(monkeypatch):
    """Graphs that torch.compile hands to its backend, which here runs them as they are."""
    graphs = []

    def backend(module, inputs):
        graphs.append(module)
        return module.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    torch._dynamo.reset()
    return graphs


def test_predict_compiles_what_it_was_asked_to_compile(captured, tmp_path):
    write_frames(tmp_path / "clip", make_frames(4))
    for name, opts in (("plain", ()), ("compiled", ("TEST.VIDEO.COMPILE", "default"))):
        arguments = ("--input", tmp_path / "clip", "--output", tmp_path / name, "--no-video")
        assert not captured
        assert main(["predict", *command(tmp_path, *arguments, opts=opts)]) == 0
    # Backbone and encoders; check_memory came first.
    assert len(captured) >= 2
    plain, compiled = (
        json.loads((tmp_path / name / "predictions.json").read_text())
        for name in ("plain", "compiled")
    )
    assert len(compiled) == len(plain) > 0
    for one, other in zip(plain, compiled, strict=True):
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-3)
