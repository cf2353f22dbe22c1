"""Gradients of a training step whose flow lands on the edge of the map, in every precision."""

from __future__ import annotations

import pytest
import torch
from detectron2.utils.events import EventStorage
from toy_models import build, make_video, tiny_cfg, training_sample

from iff_detectron2.engine.acceleration import mixed_precision

SCALE = 1024.0  # of the loss, as a gradient scaler has it in fp16


def gradient_norm(landing: float, dtype: torch.dtype | None = None) -> float:
    """Norm of all gradients of a step whose neighbours all move by `landing` cells to the left."""
    model = build(tiny_cfg("MODEL.IFF.AGGREGATOR", "FlowGuidedAggregator")).train()
    for name, parameter in model.named_parameters():
        if name.endswith("flow_estimator.flow.bias"):
            torch.nn.init.constant_(parameter, landing)
    video = make_video(3)
    sample = training_sample(video, 1, [-1, 1], [[10, 10, 50, 50]], [1])
    torch.manual_seed(0)
    with EventStorage():
        if dtype is None:
            losses = model([sample])
        else:
            with mixed_precision("cpu", dtype):
                losses = model([sample])
        (SCALE * sum(losses.values())).backward()
    gradients = [p.grad.double().flatten() for p in model.parameters() if p.grad is not None]
    return float(torch.cat(gradients).norm() / SCALE)


@pytest.fixture(scope="module")
def beside() -> float:
    """Return the norm a hair beside the edge, in float32."""
    return gradient_norm(-1.0 + 1e-3)


def test_a_flow_that_lands_on_the_edge_keeps_the_gradient(beside):
    """M1: exactly at -1 warped embeddings are exactly zero, and the norm was 10301 for 1.8."""
    assert gradient_norm(-1.0) == pytest.approx(beside, rel=0.25)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_keeps_the_gradient(dtype, beside):
    assert beside / 2 < gradient_norm(-1.0, dtype) < beside * 2
