"""The motion of tracks on a map of cells, by hand."""

import math

import pytest
import torch
from detectron2.utils.events import EventStorage
from toy_models import build, make_video, tiny_cfg, training_sample

from iff_detectron2.modeling.track_motion import (
    EndPointErrors,
    TrackLoss,
    end_point_errors,
    mean_errors,
    track_flow,
)


def box(*corners):
    return torch.tensor(corners, dtype=torch.float32)


# Cells of 8 pixels. Track 1 moves 2 cells right and 1 up, track 2 doubles its size, 3 leaves.
KEY = {1: box(16, 16, 32, 32), 2: box(40, 8, 56, 24), 3: box(0, 0, 8, 8)}
REF = {1: box(32, 8, 48, 24), 2: box(32, 0, 64, 32), 4: box(0, 0, 8, 8)}


def test_a_box_that_moves():
    flow, known = track_flow([KEY, REF], (6, 8), 8)
    assert flow.shape == (1, 2, 6, 8)
    assert known[0, 0, 2:4, 2:4].all()
    assert flow[0, 0, 2:4, 2:4].tolist() == [[2.0, 2.0]] * 2
    assert flow[0, 1, 2:4, 2:4].tolist() == [[-1.0, -1.0]] * 2


def test_a_box_that_grows():
    """Centres of cells half a cell off the middle end up a whole cell off it."""
    flow, known = track_flow([KEY, REF], (6, 8), 8)
    assert known[0, 0, 1:3, 5:7].all()
    assert flow[0, 0, 1:3, 5:7].tolist() == [[-0.5, 0.5]] * 2
    assert flow[0, 1, 1:3, 5:7].tolist() == [[-0.5, -0.5], [0.5, 0.5]]


def test_what_no_track_covers_is_not_known():
    _, known = track_flow([KEY, REF, {}], (6, 8), 8)
    assert known[0].sum() == 8
    assert not known[1].any()


def test_a_box_smaller_than_a_cell_has_the_cell_of_its_centre():
    flow, known = track_flow([{1: box(17, 17, 19, 19)}, {1: box(25, 17, 27, 19)}], (6, 8), 8)
    assert known.nonzero().tolist() == [[0, 0, 2, 2]]
    assert flow[0, :, 2, 2].tolist() == pytest.approx([1.0, 0.0], abs=0.8)


def test_end_point_errors_by_hand():
    flow = torch.zeros(2, 2, 6, 8)
    flow[0, :, 3, 3] = torch.tensor([2.0, 2.0])  # the centre of track 1 lies at the corner (3, 3)
    errors = end_point_errors(flow, [KEY, REF, {2: box(40, 16, 56, 32)}], 8)
    assert sorted(errors.moved.tolist()) == pytest.approx([0.0, 1.0, math.hypot(2, 1)])
    assert sorted(errors.error.tolist()) == pytest.approx([0.0, 1.0, 3.0])


def test_centres_outside_of_the_map_are_left_out():
    outside = {1: box(-40, 0, -8, 16)}
    assert not len(end_point_errors(torch.zeros(1, 2, 6, 8), [outside, outside], 8).moved)


def test_means_by_speed():
    errors = EndPointErrors(torch.tensor([0.2, 2.0, 4.0]), torch.tensor([0.4, 1.0, 2.0]))
    means = mean_errors([errors])
    assert means == pytest.approx(
        {
            **{"epe": 3.4 / 3, "epe_zero": 6.2 / 3, "epe_slow": 0.4, "epe_zero_slow": 0.2},
            **{"epe_fast": 1.5, "epe_zero_fast": 3.0},
        }
    )
    assert mean_errors([]) == {}


def test_loss_by_hand_and_its_minimum():
    loss = TrackLoss(3.0)
    flow, _ = track_flow([KEY, REF], (6, 8), 8)
    assert loss(flow, [KEY, REF], 8) == 0
    # One of 8 cells is 2 cells off in x: smooth L1 with beta 0.5 is 2 - 0.25; halved over two axes.
    flow[0, 0, 2, 2] += 2
    assert loss(flow, [KEY, REF], 8).item() == pytest.approx(3 * 1.75 / 2 / 8)


def test_loss_without_a_common_track_is_zero_with_a_gradient():
    flow = torch.randn(1, 2, 6, 8, requires_grad=True)
    loss = TrackLoss(1.0)(flow, [KEY, {}], 8)
    loss.backward()
    assert loss == 0
    assert not flow.grad.any()


def test_the_loss_needs_tracks_in_the_samples():
    with pytest.raises(ValueError, match=r"INPUT\.VIDEO\.TRACKS is False"):
        build(tiny_cfg("MODEL.IFF.TRACK_LOSS.WEIGHT", 1.0, "INPUT.VIDEO.TRACKS", False))


@pytest.mark.parametrize("detach", [False, True])
def test_a_training_step_has_the_loss_and_it_trains_the_flow(detach):
    keys = ("MODEL.IFF.TRACK_LOSS.WEIGHT", 1.0, "INPUT.VIDEO.TRACKS", True)
    model = build(tiny_cfg(*keys, "MODEL.IFF.TRL.ENABLED", False, "MODEL.IFF.FLOW.DETACH", detach))
    model.train()
    video = make_video(2)
    sample = training_sample(video, 0, [1], [[8, 8, 40, 40]], [1])
    with EventStorage(0):
        losses = model([{**sample, "tracks": [{1: box(8, 8, 40, 40)}, {1: box(16, 8, 48, 40)}]}])
    # Training starts from zero flow: one cell off in x, smooth L1 is 1 - 0.25, halved.
    assert losses["loss_track"].item() == pytest.approx(0.375)
    flow = {n: p for n, p in model.named_parameters() if n.endswith("flow_estimator.flow.bias")}
    ((_, bias),) = flow.items()
    own = torch.autograd.grad(losses["loss_track"], bias, retain_graph=True)[0]
    assert own[0] < 0
    (others,) = torch.autograd.grad(
        sum(loss for name, loss in losses.items() if name != "loss_track"), bias, allow_unused=True
    )
    assert (others is None or not others.any()) == detach
