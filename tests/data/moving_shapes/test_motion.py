"""Motion IoU and the trajectories that are solved from it."""

from __future__ import annotations

import numpy as np
import pytest

from iff_detectron2.data.moving_shapes.motion import (
    Trajectory,
    extents,
    mean_motion_iou,
    plan_trajectory,
    wanted_motion_iou,
)
from iff_detectron2.data.moving_shapes.objects import outline_points


def test_mean_motion_iou_of_a_steady_motion_in_closed_form() -> None:
    # A box of width 20 that moves 1 pixel a frame overlaps itself after k by (20-k)/(20+k).
    boxes = np.array([(x, 5, x + 19, 14) for x in range(3)])
    one, two = 19 / 21, 18 / 22
    expected = np.mean([(one + two) / 2, one, (one + two) / 2])
    assert mean_motion_iou(boxes) == pytest.approx(expected, abs=1e-12)


def test_mean_motion_iou_looks_no_further_than_its_window() -> None:
    boxes = np.array([(0, 0, 9, 9)] * 3 + [(50, 50, 59, 59)] * 3)
    # Window 1: frames see 1, 1, (1+0)/2, (0+1)/2, 1, 1.
    assert mean_motion_iou(boxes, window=1) == pytest.approx(5 / 6)
    assert mean_motion_iou(boxes[:1]) == 1.0


def test_wanted_motion_iou_deals_out_the_shares() -> None:
    wanted = np.array([wanted_motion_iou(q) for q in (np.arange(1000) + 0.5) / 1000])
    assert np.mean(wanted > 0.9) == pytest.approx(0.38, abs=0.002)
    assert np.mean(wanted < 0.7) == pytest.approx(0.26, abs=0.002)


def test_extents_of_a_turned_rectangle_in_closed_form() -> None:
    path = Trajectory(np.array([[50.0, 40.0]]), np.array([0.3]), np.array([1.2]))
    box = extents(outline_points("square"), np.array([10.0, 6.0]), path)[0]
    half_width = 1.2 * (10 * np.cos(0.3) + 6 * np.sin(0.3))
    half_height = 1.2 * (10 * np.sin(0.3) + 6 * np.cos(0.3))
    expected = [50 - half_width, 40 - half_height, 50 + half_width, 40 + half_height]
    np.testing.assert_allclose(box, expected, atol=1e-12)


@pytest.mark.parametrize("outline", ["disc", "square", "triangle", "capsule"])
@pytest.mark.parametrize("wanted", [0.95, 0.8, 0.5])
def test_trajectory_has_the_wanted_motion_iou(outline: str, wanted: float) -> None:
    half = np.array([22.0, 20.0])
    points = outline_points(outline)
    for seed in range(5):
        path = plan_trajectory(
            np.random.default_rng(seed),
            points=points,
            half=half,
            start=np.array([100.0, 70.0]),
            size=(224, 160),
            num_frames=40,
            motion_iou=wanted,
            crossing=False,
        )
        boxes = np.round(extents(points, half, path))
        boxes = np.clip(boxes, 0, [223, 159, 223, 159])
        values = []
        for t in range(40):
            window = [u for u in range(max(t - 10, 0), min(t + 11, 40)) if u != t]
            values.append(np.mean([_iou(boxes[t], boxes[u]) for u in window]))
        assert np.mean(values) == pytest.approx(wanted, abs=0.05)
        # Smooth: no step is much longer than the usual one.
        steps = np.linalg.norm(np.diff(path.centers, axis=0), axis=1)
        assert steps.max() <= 1.1 * np.median(steps) + 0.1


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0]) + 1
    height = min(first[3], second[3]) - max(first[1], second[1]) + 1
    inter = max(width, 0) * max(height, 0)
    areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (first, second)]
    return inter / (sum(areas) - inter)
