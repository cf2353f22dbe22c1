"""The whole model on a GPU: what it detects there, and a training step in mixed precision."""

from __future__ import annotations

import pytest
import torch
from detectron2.utils.events import EventStorage
from toy_models import build, make_video, randomise_flow, tiny_cfg, training_sample, window_sample
from video_runs import SIZES, make_frames, make_model

from iff_detectron2.engine import VideoPredictor
from iff_detectron2.layers.backend import use_triton

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


def on(device: str) -> torch.nn.Module:
    model = build(tiny_cfg("MODEL.DEVICE", "cpu"))
    randomise_flow(model)
    return model.to(device)


@torch.no_grad()
def test_a_stream_on_the_gpu_equals_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    assert use_triton(torch.empty(1, device="cuda"))
    video, offsets = make_video(4), (-2, -1, 1, 2)
    models = on("cpu"), on("cuda")
    for t in range(len(video)):
        sample = window_sample(video, t, offsets, streaming_from=t - 1)
        expected, actual = (model([sample])[0]["instances"].to("cpu") for model in models)
        assert len(expected) > 0
        torch.testing.assert_close(actual.scores, expected.scores, rtol=1e-3, atol=1e-4)
        boxes = actual.pred_boxes.tensor, expected.pred_boxes.tensor
        torch.testing.assert_close(*boxes, rtol=1e-3, atol=0.1)
        assert torch.equal(actual.pred_classes, expected.pred_classes)


@torch.no_grad()
def test_a_frame_is_encoded_and_fused_without_waiting_for_the_gpu():
    """The heads wait, since which boxes survive decides shapes; what is in front of them not."""
    model = on("cuda")
    images = [image.cuda() for image in make_video(5)]
    codes = [model.temporal.encode(*model.frame_maps([{"image": image}])) for image in images]

    def step():
        new = model.temporal.encode(*model.frame_maps([{"image": images[0]}]))
        refs = {
            level: {name: torch.cat([c[level][name] for c in codes[1:]]) for name in new[level]}
            for level in new
        }
        return model.temporal.fuse_codes(new, refs, [-2, -1, 1, 2])

    expected = step()["reduction"].feature.cpu()  # kernels are compiled now
    torch.cuda.set_sync_debug_mode("error")
    try:
        fused = step()["reduction"].feature
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(fused.cpu(), expected)


def test_iterating_on_the_gpu_gives_what_pushing_on_the_cpu_gives(monkeypatch):
    """Frames come from pinned memory and results one frame late, none lost and none before it is
    there."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    frames = make_frames(9)
    predictors = [
        VideoPredictor(tiny_cfg(*SIZES, "MODEL.DEVICE", device), make_model().to(device))
        for device in ("cpu", "cuda")
    ]
    expected, late = predictors
    assert late.prepare(frames[0]).image.is_pinned()
    results = [result for frame in frames for result in expected.push(frame)] + expected.flush()
    found = list(late(frames))
    assert [index for index, _, _ in found] == [index for index, _ in results] == list(range(9))
    for (_, frame, got), (index, wanted) in zip(found, results, strict=True):
        assert frame is frames[index]
        assert got.scores.device.type == "cpu"
        torch.testing.assert_close(got.scores, wanted.scores, rtol=1e-3, atol=1e-4)
        boxes = got.pred_boxes.tensor, wanted.pred_boxes.tensor
        torch.testing.assert_close(*boxes, rtol=1e-3, atol=0.1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_training_step_in_mixed_precision(dtype):
    model, video = on("cuda").train(), make_video(3)
    sample = training_sample(video, 1, (-1, 1), [(10, 10, 50, 45)], [2])
    with EventStorage(0), torch.autocast("cuda", dtype):
        losses = model([sample])
    assert "loss_trl" in losses
    assert all(torch.isfinite(loss) for loss in losses.values()), losses
    sum(losses.values()).backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert not [n for n, g in gradients.items() if g is None or not torch.isfinite(g).all()]
    assert any(g.any() for n, g in gradients.items() if ".flow_estimator." in n)
