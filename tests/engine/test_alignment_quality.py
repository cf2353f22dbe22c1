"""The instrument on models whose flow and features are known."""

import re

import numpy as np
import pytest
import torch
from toy_models import build, randomise_flow, tiny_cfg, window_sample

from iff_detectron2.engine.alignment_quality import (
    AlignmentQuality,
    advice,
    measure_alignment,
    replaced_flow,
    tracks_of,
)

SIZE = 64, 96


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build(tiny_cfg())


def constant_flow(dx, dy):
    def flow_of(request, flow):
        return torch.tensor([dx, dy]).view(1, 2, 1, 1).expand_as(flow).contiguous()

    return flow_of


def moving_video(length=6, step=8):
    """Make a scene of noise that moves `step` pixels right per frame, and a box that follows."""
    scene = torch.from_numpy(
        np.random.default_rng(0).integers(0, 256, (3, SIZE[0], SIZE[1] + step * length), np.uint8)
    )
    images = [scene[..., step * (length - t) :][..., : SIZE[1]] for t in range(length)]
    tracks = [{5: torch.tensor([16.0 + step * t, 16, 32 + step * t, 32])} for t in range(length)]
    return images, tracks


def measure(model, **kwargs):
    images, tracks = moving_video()
    return measure_alignment(
        model, {"v": images}, {"v": tracks}, offsets=(-1, 1, 2), every=1, **kwargs
    )


def test_zero_flow_is_off_by_the_motion(model):
    with replaced_flow(model, constant_flow(0.0, 0.0)):
        quality = measure(model)
    assert quality.errors == quality.moved
    assert quality.moved[1] == pytest.approx([1.0] * 10)
    assert quality.moved[2] == pytest.approx([2.0] * 4)
    assert quality.residual_ratio == 1


def test_another_flow_is_off_by_the_difference(model):
    with replaced_flow(model, constant_flow(1.0, 0.0)):
        quality = measure(model, ground_motion=lambda video, key, ref: (8 * (ref - key), 0))
    assert sorted(quality.errors[1]) == pytest.approx([0.0] * 5 + [2.0] * 5)
    assert quality.errors[2] == pytest.approx([1.0] * 4)
    rows = {name: row for name, *row in quality.rows()}
    assert rows["offset 1"] == pytest.approx([10, 1.0, 1.0])
    assert rows["moved > 1.5"] == pytest.approx([4, 1.0, 2.0])
    count, error, zero = rows["ground"]
    assert (error, zero) == pytest.approx((1.0, 18 / 14))
    assert count == 14


def test_what_is_spoilt_in_either_frame_is_left_out(model):
    """Frame 2 is spoilt: of the pairs (t, t -1), (t, t + 1), (t, t + 2) those without it remain."""
    with replaced_flow(model, constant_flow(1.0, 0.0)):
        quality = measure(model, spoilt=lambda video, frame: {5} if frame == 2 else set())
    # Offset -1: 1, 4, 5; offset 1: 0, 3, 4; offset 2: 1, 3.
    expected = sorted([(1.0, 2.0)] * 3 + [(1.0, 0.0)] * 3 + [(2.0, 1.0)] * 2)
    assert sorted(quality.unspoilt) == [pytest.approx(pair) for pair in expected]
    rows = {name: row for name, *row in quality.rows()}
    assert rows["moved > 1.5, unspoilt"] == pytest.approx([2, 1.0, 2.0])


def test_the_model_is_as_it_was_afterwards(model):
    randomise_flow(model)
    video = moving_video()[0]
    sample = window_sample(video, 2, [-1, 1])
    del sample["video_id"]
    with torch.no_grad():
        before = model([sample])[0]["instances"].scores
        flow = model.temporal.last[0].levels["reduction"].flow
        assert flow.abs().max() > 0
        with replaced_flow(model, constant_flow(0.0, 0.0)):
            model([sample])
            assert not model.temporal.last[0].levels["reduction"].flow.any()
        assert torch.equal(model([sample])[0]["instances"].scores, before)


def test_a_model_without_flow_is_refused():
    plain = build(tiny_cfg("MODEL.IFF.AGGREGATOR", "SimilarityAggregator"))
    with pytest.raises(ValueError, match="does not align"):
        measure(plain)


def test_tracks_are_scaled_and_those_without_an_id_left_out():
    annotations = [
        {"bbox": [2, 4, 6, 8], "bbox_mode": 0, "track_id": 3},
        {"bbox": [2, 4, 6, 8], "bbox_mode": 1, "track_id": 4},
        {"bbox": [2, 4, 6, 8], "bbox_mode": 0},
    ]
    tracks = tracks_of(annotations, (2, 0.5))
    assert {k: v.tolist() for k, v in tracks.items()} == {3: [4, 2, 12, 4], 4: [4, 2, 16, 6]}


def quality(moved, errors, residual=(1.0, 0.5)):
    made = AlignmentQuality(residual=[residual])
    if moved:
        made.moved[1], made.errors[1] = moved, errors
    return made


@pytest.mark.parametrize(
    ("measured", "sentence"),
    [
        (quality([2.0, 4.0], [0.5, 1.5]), "alignment helps here: the flow is 1.00 cells off"),
        (quality([1.0], [1.2]), "does not help here .*1.20 cells off.*TEST.VIDEO.NUM_REFS 2 or 0"),
        (quality([], []), "alignment helps here: the features differ by 0.50"),
        (quality([], [], (1.0, 0.99)), "does not help here .*differ by 0.99"),
        (quality([], []), "alignment helps here: the features"),
        (AlignmentQuality(), "not measured"),
    ],
)
def test_advice(measured, sentence):
    assert re.search(sentence, advice(measured))


def test_tracks_that_meet_nobody_leave_the_word_to_the_residual():
    measured = AlignmentQuality(residual=[(1.0, 0.5)])
    measured.moved[1] += []
    assert measured.mean_error() is None
    assert "features differ by 0.50" in advice(measured)
