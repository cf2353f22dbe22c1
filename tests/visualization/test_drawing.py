from __future__ import annotations

import numpy as np
import pytest

from iff_detectron2.structures import Detections
from iff_detectron2.visualization import drawing
from iff_detectron2.visualization.drawing import ROOM, class_color, draw_boxes, draw_detections
from iff_detectron2.visualization.image import tag_size

GREY = np.full((80, 120, 3), 128, np.uint8)
NAMES = ("ring", "star", "gear")


def found(boxes, scores, classes, track_ids=None) -> Detections:
    return Detections(np.zeros(len(boxes), int), np.array(boxes), scores, classes, track_ids)


def has_color(image: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    return (image == color).all(axis=2)


def test_box_lies_on_its_corners_in_its_class_color():
    picture = draw_detections(GREY, found([[30, 40, 90, 70]], [0.9], [1]), NAMES)
    colored = has_color(picture, class_color(1))
    for y, x in [(40, 60), (70, 60), (55, 30), (55, 90)]:
        assert colored[y - 1 : y + 2, x - 1 : x + 2].any()
    assert (picture[45:66, 40:80] == 128).all()
    assert (picture[76:] == 128).all()


def labels_of(monkeypatch, *arguments, **options):
    """Return what is written, with its size."""
    written = []
    monkeypatch.setattr(
        drawing, "draw_tag", lambda image, text, x, y, size, color: written.append((text, size))
    )
    draw_detections(*arguments, **options)
    return written


WIDE = np.full((400, 600, 3), 128, np.uint8)


def test_labels_name_class_track_and_score(monkeypatch):
    detections = found([[10, 50, 300, 300], [310, 50, 590, 300]], [0.554, 0.91], [1, 0], [15, -1])
    labels = labels_of(monkeypatch, WIDE, detections, NAMES)
    assert [text for text, _ in labels] == ["ring 0.91", "star #15 0.55"]
    hidden = labels_of(monkeypatch, WIDE, detections, NAMES, show_scores=False)
    assert [text for text, _ in hidden] == ["ring", "star #15"]
    unnamed = labels_of(monkeypatch, WIDE, detections)
    assert [text for text, _ in unnamed] == ["0 0.91", "1 #15 0.55"]


def test_labels_are_no_larger_than_boxes_allow(monkeypatch):
    """Smaller letters first, then fewer words, then none."""
    before = 1000
    seen = set()
    for width in range(120, 2, -1):
        box = [[100, 100, 100 + width, 200]]
        written = labels_of(monkeypatch, WIDE, found(box, [0.5], [2], [7]), NAMES)
        for text, size in written:
            assert tag_size(text, size)[0] <= ROOM * width
            assert size >= 9
        room = tag_size(*written[0])[0] if written else 0
        assert room <= before
        before = room
        seen.add(written[0][0] if written else "")
    assert seen == {"gear #7 0.50", "gear #7", "#7", ""}


def test_a_track_keeps_its_color_and_shows_it():
    box = [[30, 40, 90, 70]]
    for class_id in (0, 1):
        picture = draw_detections(GREY, found(box, [0.9], [class_id], [2]), NAMES)
        assert has_color(picture, class_color(2)).any()
        assert not has_color(picture, class_color(class_id)).any()


def test_colors_may_be_given():
    green = (80, 170, 40)
    picture = draw_boxes(GREY, [[30, 40, 90, 70]], [["star"]], [green])
    assert has_color(picture, green).any()
    with pytest.raises(ValueError, match="1 boxes were given with 1 labels and 2 colours"):
        draw_boxes(GREY, [[30, 40, 90, 70]], [["star"]], [green, green])


def test_input_frame_is_not_changed_and_no_box_is_a_plain_copy():
    frame = GREY.copy()
    picture = draw_detections(frame, Detections.empty(), NAMES)
    np.testing.assert_array_equal(picture, GREY)
    draw_detections(frame, found([[10, 20, 60, 70]], [0.5], [0]), NAMES, scale=1.0)
    np.testing.assert_array_equal(frame, GREY)


def test_score_threshold_hides_boxes():
    boxes, scores, labels = [[10, 30, 50, 60], [70, 30, 110, 60]], [0.2, 0.8], [0, 2]
    picture = draw_detections(GREY, found(boxes, scores, labels), NAMES, score_threshold=0.5)
    assert not has_color(picture, class_color(0)).any()
    assert has_color(picture, class_color(2)).any()


def test_scale_enlarges_the_picture_and_moves_the_boxes_with_it():
    picture = draw_detections(GREY, found([[30, 40, 90, 70]], [1.0], [1]), NAMES, scale=2.5)
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
        picture = draw_detections(GREY, found([box, box], [0.9, 0.4], labels), NAMES)
        below = picture[50:55, 19:22].reshape(-1, 3).tolist()
        assert list(class_color(top)) in below
        assert list(class_color(1 - top)) not in below


def test_tags_of_a_shared_box_do_not_cover_each_other():
    box = [20, 30, 80, 60]
    picture = draw_detections(GREY, found([box, box], [0.9, 0.4], [0, 1]), NAMES)
    for label, score in [(0, 0.9), (1, 0.4)]:
        alone = draw_detections(GREY, found([box], [score], [label]), NAMES)
        tag_pixels = has_color(alone[:28], class_color(label)).sum()
        assert tag_pixels > 100
        assert has_color(picture, class_color(label)).sum() >= tag_pixels
    # The best score has its tag at the best place, above the box.
    assert has_color(picture[:28], class_color(0)).any()
    assert not has_color(picture[:28], class_color(1)).any()


def test_ground_truth_is_white_with_gaps():
    picture = draw_detections(GREY, Detections.empty(), gt_boxes=[[20, 30, 100, 60]])
    top = has_color(picture, (255, 255, 255))[30, 20:101]
    assert 20 < top.sum() < 70
    assert not has_color(picture, (255, 255, 255))[35:55, 25:95].any()


def test_caption_and_labels_stay_inside_the_picture():
    boxes = [[-40, -50, 5, 5], [110, 70, 400, 500], [1e9, 1e9, 2e9, 2e9]]
    detections = found(boxes, [0.9, 0.8, 0.7], [0, 1, 2])
    picture = draw_detections(GREY, detections, NAMES, caption="frame 3")
    assert picture.shape == GREY.shape
    for label in range(2):
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
        ({"labels": []}, "1 boxes were given with 0 labels and 1 colours"),
        ({"scale": 0}, "scale of the picture must be positive, got 0"),
        ({"gt_boxes": [[1, 2]]}, r"gt_boxes must have shape \[N, 4\]"),
    ],
)
def test_wrong_input_is_named(kwargs, sentence):
    right = {"boxes": [[0, 0, 1, 1]], "labels": [["a"]], "colors": [(1, 2, 3)]}
    with pytest.raises(ValueError, match=sentence):
        draw_boxes(GREY, **{**right, **kwargs})


@pytest.mark.parametrize("class_id", [3, -1])
def test_a_class_without_a_name_is_named(class_id):
    with pytest.raises(ValueError, match=f"class {class_id} is not the index of a class of 3"):
        draw_detections(GREY, found([[0, 0, 1, 1]], [0.5], [class_id]), NAMES)
