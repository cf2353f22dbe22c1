"""Deteriorations: how often they come, and what they do to pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from iff_detectron2.data.moving_shapes.degradations import (
    OBJECT_KINDS,
    active_run,
    add_noise,
    blur_along,
    compress,
    schedule_runs,
)


@pytest.mark.parametrize("severity", [0.5, 1.0, 2.0])
def test_runs_are_brief_apart_and_as_frequent_as_asked(severity: float) -> None:
    runs = schedule_runs(
        np.random.default_rng(0), num_frames=60000, severity=severity, kinds=OBJECT_KINDS
    )
    share = sum(run.length for run in runs) / 60000
    assert share == pytest.approx(0.31 * severity, abs=0.06 * severity)
    assert {run.length for run in runs} == {1, 2, 3, 4, 5}
    assert {run.kind for run in runs} == set(OBJECT_KINDS)
    for before, after in itertools.pairwise(runs):
        assert after.start > before.start + before.length


def test_no_runs_without_severity() -> None:
    rng = np.random.default_rng(0)
    assert schedule_runs(rng, num_frames=1000, severity=0, kinds=OBJECT_KINDS) == []


def test_active_run() -> None:
    runs = schedule_runs(np.random.default_rng(1), num_frames=50, severity=1, kinds=("noise",))
    for frame in range(50):
        expected = [r for r in runs if frame in range(r.start, r.start + r.length)]
        assert active_run(runs, frame) == (expected[0] if expected else None)


@pytest.mark.parametrize("motion", [(12.0, 0.0), (0.0, 9.0), (6.0, -8.0), (1.7, 2.3)])
def test_motion_blur_spreads_a_point_along_the_motion(motion: tuple[float, float]) -> None:
    image = np.zeros((61, 61, 1), np.float32)
    image[30, 30] = 1
    blurred = np.asarray(blur_along(image, np.array(motion)), np.float64).reshape(61, 61)
    y, x = np.mgrid[:61, :61] - 30.0
    assert blurred.sum() == pytest.approx(1, abs=1e-5)
    assert abs((blurred * x).sum()) < 1e-4
    assert abs((blurred * y).sum()) < 1e-4
    length = np.hypot(*motion)
    ux, uy = np.array(motion) / length
    along, across = x * ux + y * uy, x * uy - y * ux
    # An even distribution over the length has the variance length^2 / 12; samples at the pixels'
    # corners add at most a quarter of a pixel in each direction.
    variance = (blurred * along**2).sum()
    assert length**2 / 12 <= variance * 1.02 + 1e-6
    assert variance <= length**2 / 12 * 1.15 + 0.3
    assert (blurred * across**2).sum() <= 0.3


def test_no_motion_leaves_the_image_alone() -> None:
    image = np.random.default_rng(0).uniform(0, 255, (8, 9, 3)).astype(np.float32)
    assert blur_along(image, np.zeros(2)) is image


def test_noise_has_the_deviation_asked_for() -> None:
    image = np.full((200, 200, 3), 128, np.float32)
    noisy = add_noise(np.random.default_rng(0), image, sigma=10, grain=4)
    assert noisy.mean() == pytest.approx(128, abs=1)
    assert noisy.std() == pytest.approx(10 * np.sqrt(2), rel=0.05)


def test_compression_keeps_the_mean_and_loses_detail() -> None:
    column = np.arange(64) // 2 % 2 * 200.0 + 20
    image = np.broadcast_to(column[None, :, None], (48, 64, 3)).astype(np.float32)
    poor = compress(image, shrink=4, strength=1)
    assert poor.shape == image.shape
    assert poor.mean() == pytest.approx(image.mean(), abs=12)
    assert poor.std() < 0.3 * image.std()
