"""What deteriorations do to pixels."""

from __future__ import annotations

import numpy as np
import pytest

from iff_detectron2.data.deteriorations import (
    DETERIORATIONS,
    add_noise,
    blur_along,
    compress,
    darken,
    deteriorate,
    occlude,
)


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


def test_darkness_scales() -> None:
    image = np.full((3, 4, 3), 100, np.float32)
    np.testing.assert_array_equal(darken(image, gain=0.25), np.full((3, 4, 3), 25, np.float32))


def test_a_patch_covers_its_box_alone() -> None:
    image = np.full((20, 30, 3), 1000, np.float32)  # no colour of a patch
    covered = occlude(np.random.default_rng(0), image, (5, 2, 25, 12))
    changed = (covered != image).all(axis=2)
    expected = np.zeros((20, 30), bool)
    expected[2:12, 5:25] = True
    np.testing.assert_array_equal(changed, expected)


@pytest.mark.parametrize("kind", DETERIORATIONS)
def test_every_kind_spoils_and_more_strength_spoils_more(kind: str) -> None:
    y, x = np.mgrid[:48, :64]
    waves = 127 + 60 * np.sin(x / 2.5) + 60 * np.cos(y / 3.5)
    image = np.repeat(waves[..., None], 3, axis=2).astype(np.uint8)
    errors = []
    for strength in (0.05, 1.0):
        results = [
            deteriorate(image, np.random.default_rng(s), kinds=[kind], strength=(strength,) * 2)
            for s in range(12)
        ]
        for result in results:
            assert result.dtype == np.uint8
            assert result.shape == image.shape
        errors.append(np.mean([np.abs(r.astype(float) - image).mean() for r in results]))
    assert errors[1] > 1.5 * errors[0]


def test_the_same_seed_spoils_alike_and_leaves_the_image() -> None:
    image = np.random.default_rng(1).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    before = image.copy()
    one, two, other = (deteriorate(image, np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert (one != other).any()
    np.testing.assert_array_equal(image, before)


def test_a_region_is_spoilt_half_of_the_time() -> None:
    image = np.full((40, 40, 3), 200, np.uint8)
    whole = [
        (deteriorate(image, np.random.default_rng(s), kinds=["darkness"]) != image).all()
        for s in range(200)
    ]
    assert 0.4 < np.mean(whole) < 0.65


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 2)])
def test_tiny_images(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 90, np.uint8)
    for seed in range(30):
        assert deteriorate(image, np.random.default_rng(seed)).shape == image.shape


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kinds": ["rain"]}, "motion_blur, .* got \\['rain'\\]"),
        ({"kinds": []}, "got \\[\\]"),
        ({"strength": (1.0, 0.5)}, "range from 0 on, got \\(1.0, 0.5\\)"),
        ({"strength": (-1.0, 0.5)}, "range from 0 on"),
    ],
)
def test_wrong_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deteriorate(np.zeros((4, 4, 3), np.uint8), np.random.default_rng(0), **settings)
