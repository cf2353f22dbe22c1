from __future__ import annotations

import numpy as np
import pytest

from iff_detectron2.structures.image import check_bgr_image
from iff_detectron2.visualization.image import (
    BLACK,
    WHITE,
    draw_tag,
    draw_text,
    readable_on,
    resize,
    tag_size,
    text_size,
)


@pytest.mark.parametrize(
    ("image", "error", "sentence"),
    [
        ([[0]], TypeError, "must be a numpy array, got list"),
        (np.zeros((4, 4), np.uint8), ValueError, r"shape \[H, W, 3\], got \[4, 4\]"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"got \[0, 4, 3\]"),
        (np.zeros((4, 4, 3), np.float32), TypeError, "must be uint8 .* got float32"),
    ],
)
def test_wrong_images_are_refused(image, error, sentence):
    with pytest.raises(error, match=sentence):
        check_bgr_image(image)


def test_text_stays_in_the_box_its_size_announces():
    image = np.full((60, 200, 3), 255, np.uint8)
    text = "Äpfel t\N{MINUS SIGN}5"
    draw_text(image, text, 10, 20, 18)
    width, height = text_size(text, 18)
    ink = np.argwhere((image < 128).any(axis=2))
    assert len(ink) > 50
    assert (ink.min(axis=0) >= (20, 10)).all()
    assert (ink.max(axis=0) < (20 + height, 10 + width)).all()


@pytest.mark.parametrize(("x", "y"), [(-30, -8), (90, 25), (-500, 0), (0, 500)])
def test_text_over_the_border_is_cut(x, y):
    whole = np.full((700, 1200, 3), 255, np.uint8)
    draw_text(whole, "cut me", x + 550, y + 100, 18)
    small = np.full((32, 100, 3), 255, np.uint8)
    draw_text(small, "cut me", x, y, 18)
    np.testing.assert_array_equal(small, whole[100:132, 550:650])


def test_tag_fills_its_rectangle_and_nothing_else():
    image = np.zeros((50, 120, 3), np.uint8)
    draw_tag(image, "car", 7, 9, 14, (0, 255, 255))
    width, height = tag_size("car", 14)
    filled = np.argwhere(image.any(axis=2))
    assert filled.min(axis=0).tolist() == [9, 7]
    assert filled.max(axis=0).tolist() == [9 + height - 1, 7 + width - 1]


def test_text_color_contrasts_with_its_background():
    assert readable_on((255, 255, 255)) == BLACK
    assert readable_on((0, 255, 255)) == BLACK
    assert readable_on((255, 0, 0)) == WHITE
    assert readable_on((0, 0, 0)) == WHITE


def test_resize_averages_areas_and_copies():
    image = np.zeros((4, 4, 3), np.uint8)
    image[::2] = 200
    assert (resize(image, 2, 2) == 100).all()
    same = resize(image, 4, 4)
    assert same is not image
    np.testing.assert_array_equal(same, image)
