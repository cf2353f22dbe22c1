from __future__ import annotations

import colorsys

import numpy as np
import pytest

from iff_detectron2.visualization.flow_colors import (
    color_wheel,
    color_wheel_legend,
    flow_magnitude,
    flow_to_color,
)


def rgb_of(dx: float, dy: float, max_magnitude: float = 1.0) -> tuple[int, int, int]:
    flow = np.full((2, 1, 1), 0.0)
    flow[:, 0, 0] = dx, dy
    blue, green, red = flow_to_color(flow, max_magnitude)[0, 0]
    return int(red), int(green), int(blue)


def hue_saturation(rgb: tuple[int, int, int]) -> tuple[float, float]:
    hue, saturation, _ = colorsys.rgb_to_hsv(*(channel / 255 for channel in rgb))
    return 360 * hue, saturation


def test_color_wheel_has_the_published_arcs():
    wheel = color_wheel()
    assert wheel.shape == (15 + 6 + 4 + 11 + 13 + 6, 3) == (55, 3)
    # First colour of each arc: the six pure hues in order.
    starts = np.cumsum([0, 15, 6, 4, 11, 13])
    assert wheel[starts].tolist() == [
        [255, 0, 0],
        [255, 255, 0],
        [0, 255, 0],
        [0, 255, 255],
        [0, 0, 255],
        [255, 0, 255],
    ]
    # By hand: second colour of RY is floor(255 / 15), second of YG is 255 - floor(255 / 6), last
    # of MR is 255 - floor(255 * 5 / 6).
    assert wheel[1].tolist() == [255, 17, 0]
    assert wheel[16].tolist() == [255 - 42, 255, 0]
    assert wheel[54].tolist() == [255, 0, 255 - 212]


def test_zero_flow_is_white():
    assert (flow_to_color(np.zeros((2, 4, 6))) == 255).all()
    assert (flow_to_color(np.zeros((2, 4, 6)), max_magnitude=3.0) == 255).all()


def test_directions_by_hand():
    assert rgb_of(1, 0) == (255, 0, 0)
    assert rgb_of(1, -0.0) == (255, 0, 0)
    # Down is a quarter turn: place 13.5 of the wheel, halfway from 13 * 17 to 14 * 17 of green.
    assert rgb_of(0, 1) == (255, 230, 0)
    # Left is half a turn: place 27, the third colour of CB, 255 - floor(255 * 2 / 11).
    assert rgb_of(-1, 0) == (0, 209, 255)
    # Up is place 40.5, between the fifth and sixth colour of BM: floor(255 * k / 13), k = 4, 5.
    assert rgb_of(0, -1) == (88, 0, 255)


@pytest.mark.parametrize("angle", [0, 20, 60, 90, 120, 150])
def test_opposite_directions_have_opposite_hues(angle):
    radians = np.deg2rad(angle)
    dx, dy = np.cos(radians), np.sin(radians)
    hue, _ = hue_saturation(rgb_of(dx, dy))
    opposite, _ = hue_saturation(rgb_of(-dx, -dy))
    distance = abs(hue - opposite)
    # The wheel spends more steps on warm hues, so that opposite is 180 degrees only nearly.
    assert min(distance, 360 - distance) > 120


def test_saturation_grows_with_the_magnitude():
    saturations = [hue_saturation(rgb_of(r, 0.3 * r))[1] for r in np.linspace(0, 0.9, 10)]
    assert saturations[0] == 0
    assert (np.diff(saturations) > 0).all()


def test_half_magnitude_is_halfway_to_white():
    assert rgb_of(0.5, 0) == (255, 128, 128)
    assert rgb_of(5, 0, max_magnitude=10) == (255, 128, 128)


def test_longest_displacement_sets_the_scale_and_keeps_full_color():
    flow = np.zeros((2, 2, 3))
    flow[0, 0, 0], flow[0, 1, 2] = 7.3, 7.3 / 2
    image = flow_to_color(flow)
    assert image[0, 0].tolist() == [0, 0, 255]
    assert image[1, 2].tolist() == [128, 128, 255]


def test_beyond_the_scale_is_darker_and_unknown_is_black():
    assert rgb_of(1.5, 0) == (191, 0, 0)
    assert rgb_of(np.nan, 0) == (0, 0, 0)
    assert rgb_of(0, np.inf) == (0, 0, 0)


def test_unknown_flow_does_not_set_the_scale():
    flow = np.zeros((2, 1, 2))
    flow[0, 0] = 2.0, np.inf
    assert flow_to_color(flow)[0].tolist() == [[0, 0, 255], [0, 0, 0]]


def test_channels_last_gives_the_same_picture():
    flow = np.random.default_rng(0).normal(size=(2, 5, 7))
    np.testing.assert_array_equal(flow_to_color(flow), flow_to_color(flow.transpose(1, 2, 0)))
    np.testing.assert_allclose(flow_magnitude(flow), np.sqrt((flow**2).sum(axis=0)))


@pytest.mark.parametrize("shape", [(2, 5), (3, 5, 7), (1, 2, 5, 7), (0,)])
def test_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"a flow must have shape \[2, H, W\]"):
        flow_to_color(np.zeros(shape))


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_wrong_scale_is_refused(scale):
    with pytest.raises(ValueError, match="max_magnitude must be positive"):
        flow_to_color(np.zeros((2, 3, 3)), scale)


def test_legend_shows_directions_around_a_white_centre():
    legend = color_wheel_legend(101)
    assert legend.shape == (101, 101, 3)
    assert legend.dtype == np.uint8
    assert (legend[50, 50] > 245).all()
    # Not exactly to the right, where the published wheel steps from its last colour to its first.
    for x, y in [(88, 60), (10, 50), (50, 90), (50, 15), (65, 45)]:
        expected = rgb_of((x - 50) / 50.5, (y - 50) / 50.5)
        np.testing.assert_allclose(legend[y, x, ::-1].astype(int), expected, atol=8)
    assert (legend[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
    with pytest.raises(ValueError, match="at least 8 pixels"):
        color_wheel_legend(7)
