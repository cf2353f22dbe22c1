from __future__ import annotations

import numpy as np
import pytest

from iff_detectron2.visualization.drawing import class_color, draw_detections

GREY = np.full((80, 120, 3), 128, np.uint8)
NAMES = ("ring", "star", "gear")


def has_color(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (image == color).all(axis=2)


def test_box_lies_on_its_corners_in_its_class_color():
    picture = draw_detections(GREY, [[30, 40, 90, 70]], [0.9], [1], NAMES)
    colored = has_color(picture, class_color(1))
    for y, x in [(40, 60), (70, 60), (55, 30), (55, 90)]:
        assert colored[y - 1 : y + 2, x - 1 : x + 2].any()
    assert (picture[45:66, 40:80] == 128).all()
    assert (picture[76:] == 128).all()


def test_colors_may_be_given():
    green = (80, 170, 40)
    picture = draw_detections(GREY, [[30, 40, 90, 70]], labels=[1], colors=[green])
    assert has_color(picture, green).any()
    assert not has_color(picture, class_color(1)).any()
    with pytest.raises(ValueError, match="1 boxes were given with 2 colours"):
        draw_detections(GREY, [[30, 40, 90, 70]], colors=[green, green])


def test_input_frame_is_not_changed_and_no_box_is_a_plain_copy():
    frame = GREY.copy()
    picture = draw_detections(frame, np.zeros((0, 4)), np.zeros(0), np.zeros(0, int), NAMES)
    np.testing.assert_array_equal(picture, GREY)
    draw_detections(frame, [[10, 20, 60, 70]], [0.5], [0], NAMES, scale=1.0)
    np.testing.assert_array_equal(frame, GREY)


def test_score_threshold_hides_boxes():
    boxes, scores, labels = [[10, 30, 50, 60], [70, 30, 110, 60]], [0.2, 0.8], [0, 2]
    picture = draw_detections(GREY, boxes, scores, labels, NAMES, score_threshold=0.5)
    assert not has_color(picture, class_color(0)).any()
    assert has_color(picture, class_color(2)).any()


def test_scale_enlarges_the_picture_and_moves_the_boxes_with_it():
    picture = draw_detections(GREY, [[30, 40, 90, 70]], None, [1], NAMES, scale=2.5)
    assert picture.shape == (200, 300, 3)
    colored = np.argwhere(has_color(picture, class_color(1))[110:])
    # Left, right and lower side of the box at 2.5 times their coordinates.
    np.testing.assert_allclose(
        [colored[:, 1].min(), colored[:, 1].max(), 110 + colored[:, 0].max()],
        [75, 225, 175],
        atol=1,
    )


def test_best_score_lies_on_top():
    box = [20, 30, 80, 60]
    for labels, top in [((0, 1), 0), ((1, 0), 1)]:
        picture = draw_detections(GREY, [box, box], [0.9, 0.4], labels, NAMES)
        below = picture[50:55, 19:22].reshape(-1, 3).tolist()
        assert list(class_color(top)) in below
        assert list(class_color(1 - top)) not in below


def test_tags_of_a_shared_box_do_not_cover_each_other():
    box = [20, 30, 80, 60]
    picture = draw_detections(GREY, [box, box], [0.9, 0.4], [0, 1], NAMES)
    for label, score in [(0, 0.9), (1, 0.4)]:
        alone = draw_detections(GREY, [box], [score], [label], NAMES)
        tag_pixels = has_color(alone[:28], class_color(label)).sum()
        assert tag_pixels > 100
        assert has_color(picture, class_color(label)).sum() >= tag_pixels
    # The best score has its tag at the best place, above the box.
    assert has_color(picture[:28], class_color(0)).any()
    assert not has_color(picture[:28], class_color(1)).any()


def test_ground_truth_is_white_with_gaps():
    picture = draw_detections(GREY, [], gt_boxes=[[20, 30, 100, 60]])
    top = has_color(picture, (255, 255, 255))[30, 20:101]
    assert 20 < top.sum() < 70
    assert not has_color(picture, (255, 255, 255))[35:55, 25:95].any()


def test_caption_and_labels_stay_inside_the_picture():
    boxes = [[-40, -50, 5, 5], [110, 70, 400, 500], [1e9, 1e9, 2e9, 2e9]]
    picture = draw_detections(GREY, boxes, [0.9, 0.8, 0.7], [0, 1, 2], NAMES, caption="frame 3")
    assert picture.shape == GREY.shape
    for label in range(3):
        assert has_color(picture, class_color(label)).sum() > 50


def test_class_colors_differ_and_are_stable():
    colors = [class_color(label) for label in range(30)]
    assert len(set(colors)) == 30
    assert colors[:3] == [class_color(label) for label in range(3)]
    distances = [
        np.abs(np.subtract(a, b)).sum() for i, a in enumerate(colors[:10]) for b in colors[:i]
    ]
    assert min(distances) > 60


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"boxes": [[0, 0, 1]]}, r"boxes must have shape \[N, 4\], got \[1, 3\]"),
        ({"boxes": [[0, 0, np.nan, 1]]}, r"boxes\[0\] has a coordinate that is not finite"),
        ({"boxes": [[0, 0, 1, 1]], "scores": [0.1, 0.2]}, "1 boxes were given with 2 scores"),
        ({"boxes": [[0, 0, 1, 1]], "labels": []}, "1 boxes were given with 0 labels"),
        (
            {"boxes": [[0, 0, 1, 1]], "labels": [3], "class_names": NAMES},
            "label 3 is not the index of a class of 3 class names",
        ),
        ({"boxes": [[0, 0, 1, 1]], "labels": [-1]}, "label -1 is not the index of a class"),
        ({"boxes": [], "scale": 0}, "scale of the picture must be positive, got 0"),
        ({"boxes": [], "gt_boxes": [[1, 2]]}, r"gt_boxes must have shape \[N, 4\]"),
    ],
)
def test_wrong_input_is_named(kwargs, sentence):
    with pytest.raises(ValueError, match=sentence):
        draw_detections(GREY, **kwargs)
