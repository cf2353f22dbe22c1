import numpy as np
import pytest
import torch
from detectron2.structures import Instances
from toy_models import tiny_cfg
from video_runs import SIZES, make_frames, make_model

from iff_detectron2.engine import VideoPredictor
from iff_detectron2.engine.window_alignment import (
    WindowAlignment,
    align_window,
    warp_errors,
    window_sample,
    zero_flow_error,
)


def moving_scene(shift):
    """Return a scene of 20x28 cells of 8 pixels, seen at (2, 2) and then `shift` cells further
    right."""
    scene = np.random.default_rng(0).integers(0, 256, (20, 28, 3), dtype=np.uint8)
    pixels = scene.repeat(8, axis=0).repeat(8, axis=1)
    return [pixels[16:112, x : x + 128] for x in (16, 16 + 8 * shift)]


def known_alignment(flow_x):
    """Return the alignment of the second view to the first by a flow of whole cells."""
    key, ref = (torch.from_numpy(f.transpose(2, 0, 1).copy()) for f in moving_scene(2))
    codes = [{"feature": x[None, :, 4::8, 4::8].float()} for x in (key, ref)]
    flow = torch.zeros(1, 2, 12, 16)
    flow[:, 0] = flow_x
    weights = torch.full((1, 1, 12, 16), 0.25)
    alignment = WindowAlignment(*codes, flow, weights, Instances((96, 128)), 8)
    return alignment, {"image": key, "ref_images": [ref], "ref_offsets": [1]}


def test_the_true_flow_takes_the_error_to_zero():
    # The camera went two cells right, so what was at x is now at x - 2.
    alignment, sample = known_alignment(-2)
    (error,) = warp_errors(alignment, sample)
    assert error.feature_after == pytest.approx(0, abs=1e-6)
    assert error.pixel_after == pytest.approx(0, abs=1e-4)
    key, ref = (x["feature"][0, :, :, 2:] for x in (alignment.key, alignment.refs))
    assert error.pixel_before == pytest.approx(float((key - ref).abs().mean()), rel=1e-5)
    by_hand = float((key - ref).abs().mean() / key.mean())
    assert error.feature_before == pytest.approx(by_hand, rel=1e-5)
    assert (error.flow, error.weight, error.offset) == (16, 0.25, 1)


def test_the_wrong_flow_does_not():
    (error,) = warp_errors(*known_alignment(2))
    assert error.feature_after > 0.1
    assert error.pixel_after > 10


@pytest.mark.parametrize("fuse_key", [True, False])
def test_window_of_a_model(fuse_key):
    opts = ("MODEL.IFF.FUSE_KEY_FRAME", fuse_key)
    cfg, model = tiny_cfg(*SIZES, *opts), make_model(*opts)
    frames = make_frames(6)
    sample = window_sample(cfg, frames, 1)
    assert sample["ref_offsets"] == [-1, -1, 1, 2]
    alignment = align_window(model, sample)
    # Detections are those of the stream, but for the size they are given in.
    predictor = VideoPredictor(cfg, model)
    results = dict([r for f in frames for r in predictor.push(f)] + predictor.flush())
    torch.testing.assert_close(alignment.instances.scores, results[1].scores, rtol=0, atol=1e-5)
    total = alignment.weights.sum(0)
    if fuse_key:
        assert total.max() < 1
    else:
        torch.testing.assert_close(total, torch.ones_like(total))
    warp, fused = zero_flow_error(alignment)
    assert warp == 0
    assert fused < 1e-6
    errors = warp_errors(alignment, sample)
    assert [error.offset for error in errors] == [-1, -1, 1, 2]
    assert all(error.flow > 0 for error in errors)


def test_zero_flow_check_sees_a_wrong_fusion(monkeypatch):
    from iff_detectron2.engine import window_alignment as module

    wrong = module.warp_and_aggregate
    monkeypatch.setattr(module, "warp_and_aggregate", lambda *args: wrong(*args) * 1.001)
    _, fused = zero_flow_error(known_alignment(0)[0])
    assert fused > 5e-4


def test_plain_detectors_have_no_alignment():
    with pytest.raises(ValueError, match="no video detector"):
        align_window(torch.nn.Identity(), {})
