"""The confusion matrix, by hand."""

from iff_detectron2.evaluation.confusion import confusion_matrix
from iff_detectron2.structures import Detections, GroundTruth


def test_by_hand():
    """Two cats, a dog and a dog to be ignored; one cat is taken for a dog, one is missed."""
    boxes = [[0, 0, 49, 49], [100, 0, 149, 49], [200, 0, 249, 49], [300, 0, 349, 49]]
    truth = GroundTruth(
        num_frames=2,
        class_names=["cat", "dog"],
        frames=[0, 0, 0, 0],
        boxes=boxes,
        classes=[0, 0, 1, 1],
        ignored=[False, False, False, True],
    )
    rows = [
        (boxes[0], 0.9, 1),  # the cat as a dog
        (boxes[0], 0.8, 0),  # the same cat again: it is taken, so this is a false alarm
        (boxes[1], 0.3, 0),  # under the score
        (boxes[2], 0.7, 1),
        (boxes[3], 0.7, 0),  # on the ignored dog
        ([0, 100, 49, 149], 0.6, 1),  # on nothing
    ]
    found = Detections(
        frames=[0] * len(rows),
        boxes=[row[0] for row in rows],
        scores=[row[1] for row in rows],
        classes=[row[2] for row in rows],
    )
    assert confusion_matrix(truth, found, 0.5).tolist() == [[0, 1, 1], [0, 1, 0], [1, 1, 0]]
    assert confusion_matrix(truth, found, 0.3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 1, 0]]
    nothing = Detections.empty()
    assert confusion_matrix(truth, nothing, 0.0).tolist() == [[0, 0, 2], [0, 0, 1], [0, 0, 0]]
