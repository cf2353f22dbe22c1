"""A slow, plain twin of the devkit and FGFA protocols in exact arithmetic, and cases for it."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from iff_detectron2.evaluation import Detections, GroundTruth


def plain_iou(a, b):
    """Exact inclusive IoU of integer boxes."""
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]) + 1)
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]) + 1)
    areas = [(x2 - x1 + 1) * (y2 - y1 + 1) for x1, y1, x2, y2 in (a, b)]
    return Fraction(width * height, sum(areas) - width * height)


def plain_threshold(box):
    w, h = box[2] - box[0] + 1, box[3] - box[1] + 1
    return min(Fraction(1, 2), Fraction(w * h, (w + 10) * (h + 10)))


def plain_ap(events, num_positives):
    """Exact area under the precision envelope of (tp, fp) in order of score."""
    if num_positives == 0:
        return None
    points, tp, fp = [], Fraction(0), Fraction(0)
    for hit, weight in events:
        tp, fp = tp + hit, fp + weight
        points.append((tp / num_positives, tp / (tp + fp) if tp + fp else Fraction(0)))
    area, reached = Fraction(0), Fraction(0)
    for i, (recall, _) in enumerate(points):
        if recall > reached:
            area += (recall - reached) * max(precision for _, precision in points[i:])
            reached = recall
    return area


def plain_evaluate(num_frames, num_classes, boxes, dets, wanted, fgfa=True):
    """AP of each class in one range, box after box and detection after detection.

    Boxes are (frame, class, box, ignored, motion); dets are (frame, class, score, box).
    """
    (low, high), (smallest, largest) = wanted.motion, wanted.area
    per_frame = [[row for row in boxes if row[0] == frame] for frame in range(num_frames)]
    motions = [m for rows in per_frame for m in ([row[4] for row in rows] or [0.0])]
    empty_weight = Fraction(sum(low <= m <= high for m in motions), len(motions))
    area_of = lambda b: (b[2] - b[0] + 1) * (b[3] - b[1] + 1)  # noqa: E731
    counts = lambda row: (  # noqa: E731
        not row[3] and low <= row[4] <= high and smallest <= area_of(row[2]) <= largest
    )
    events = [[] for _ in range(num_classes)]
    for frame in range(num_frames):
        taken = set()
        rows = per_frame[frame]
        for _, class_id, score, box in sorted(
            (d for d in dets if d[0] == frame), key=lambda d: -d[2]
        ):
            best, best_iou = None, Fraction(-1)
            for k, row in enumerate(rows):
                overlap = plain_iou(box, row[2])
                fits = row[1] == class_id and overlap >= plain_threshold(row[2])
                if fits and k not in taken and overlap > best_iou:
                    best, best_iou = k, overlap
            if best is not None:
                taken.add(best)
                events[class_id].append((score, int(counts(rows[best])), 0))
                continue
            if not smallest <= area_of(box) <= largest:
                continue
            weight = Fraction(1)
            if fgfa:
                inside = [plain_iou(box, r[2]) for r in rows if low <= r[4] <= high]
                outside = [plain_iou(box, r[2]) for r in rows if not low <= r[4] <= high]
                if not rows:
                    weight = empty_weight
                elif max(inside, default=-1) != max(outside, default=-1):
                    weight = Fraction(max(inside, default=-1) > max(outside, default=-1))
                else:
                    weight = Fraction(len(outside), len(rows))
            events[class_id].append((score, 0, weight))
    result = []
    for class_id in range(num_classes):
        num_positives = sum(counts(row) for row in boxes if row[1] == class_id)
        ordered = sorted(events[class_id], key=lambda event: -event[0])
        result.append(plain_ap([event[1:] for event in ordered], num_positives))
    return result


def to_arrays(num_frames, num_classes, boxes, dets):
    ground_truth = GroundTruth(
        num_frames=num_frames,
        class_names=[f"class{i}" for i in range(num_classes)],
        frames=np.array([b[0] for b in boxes], dtype=int),
        boxes=np.array([b[2] for b in boxes], dtype=float).reshape(-1, 4),
        classes=np.array([b[1] for b in boxes], dtype=int),
        ignored=np.array([b[3] for b in boxes], dtype=bool),
        motion_iou=np.array([b[4] for b in boxes], dtype=float),
    )
    detections = Detections(
        frames=np.array([d[0] for d in dets], dtype=int),
        boxes=np.array([d[3] for d in dets], dtype=float).reshape(-1, 4),
        scores=np.array([d[2] for d in dets], dtype=float),
        classes=np.array([d[1] for d in dets], dtype=int),
    )
    return ground_truth, detections


def random_case(seed, num_frames=6, num_classes=2, num_boxes=14, num_dets=40, smallest=3, step=6):
    """Integer boxes on a coarse grid and few scores, so that ties of every kind happen."""
    generator = np.random.default_rng(seed)

    def box(of=None):
        if of is not None and generator.random() < 0.7:  # near a labelled box
            moved = np.array(of) + step * generator.integers(-1, 2, size=4)
            if (moved[2:] - moved[:2] + 1 >= smallest).all():
                return tuple(moved.tolist())
        x, y = (step * generator.integers(0, 14, size=2)).tolist()
        w, h = (smallest + step * generator.integers(0, 12, size=2)).tolist()
        return x, y, x + w - 1, y + h - 1

    boxes = [
        (
            int(generator.integers(0, num_frames - 1)),  # the last frame stays empty
            int(generator.integers(0, num_classes)),
            box(),
            bool(generator.random() < 0.2),
            float(generator.choice([0.0, 0.3, 0.7, 0.8, 0.9, 1.0])),
        )
        for _ in range(num_boxes)
    ]
    dets = []
    for _ in range(num_dets):
        frame = int(generator.integers(0, num_frames))
        near = [b for b in boxes if b[0] == frame]
        of = near[generator.integers(len(near))] if near else None
        class_id = of[1] if of and generator.random() < 0.7 else generator.integers(num_classes)
        score = float(generator.integers(1, 8)) / 8
        dets.append((frame, int(class_id), score, box(of[2] if of else None)))
    return num_frames, num_classes, boxes, dets


def in_frame_order(dets):
    return sorted(dets, key=lambda d: d[0])
