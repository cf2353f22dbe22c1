"""A slow, plain twin of Seq-NMS that runs the whole dynamic programme again in each round.

It is the oracle of the tests and the peer of benchmarks/seq_nms.py, and imports nothing of the
package. Detections are dicts with `frame`, `class`, `box` (x1, y1, x2, y2), `score` and anything
else; they come back as new dicts with a new `score` and with `track`.
"""

from __future__ import annotations

import numpy as np


def inclusive_ious(box, others):
    """IoU of a box with others, [N, 4]; both ends of a box are pixels of it."""
    width = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0]) + 1
    height = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1]) + 1
    common = np.maximum(0.0, width) * np.maximum(0.0, height)
    area = (box[2] - box[0] + 1) * (box[3] - box[1] + 1)
    areas = (others[:, 2] - others[:, 0] + 1) * (others[:, 3] - others[:, 1] + 1)
    return common / (area + areas - common)


def ordinary_nms(detections, threshold):
    """Greedy NMS of the boxes of one frame; they are in order of preference among equal scores."""
    kept = []
    for detection in sorted(detections, key=lambda d: -d["score"]):
        others = np.array([k["box"] for k in kept], dtype=float).reshape(-1, 4)
        if not (inclusive_ious(np.array(detection["box"], float), others) > threshold).any():
            kept.append(detection)
    return kept


class OneClass:
    """Seq-NMS of one class of one video.

    Args:
        frames: detections of each frame of the video, in order of preference.
    """

    def __init__(self, frames, link_iou, nms_iou, rescore, min_path_score):
        self.frames = frames
        self.nms_iou, self.rescore, self.min_path_score = nms_iou, rescore, min_path_score
        self.boxes = [
            np.array([d["box"] for d in frame], dtype=float).reshape(-1, 4) for frame in frames
        ]
        self.scores = [[d["score"] for d in frame] for frame in frames]
        self.free = [[True] * len(frame) for frame in frames]
        self.suppressed = [[False] * len(frame) for frame in frames]
        # links[t][i]: boxes of frame t + 1 that box i of frame t is linked to.
        self.links = [
            [np.flatnonzero(inclusive_ious(box, after) >= link_iou).tolist() for box in before]
            for before, after in zip(self.boxes, self.boxes[1:], strict=False)
        ]
        self.paths = []

    def best_path(self):
        """Return the path with the largest sum, as (sum, first frame, boxes)."""
        sums = [
            [score if free else 0.0 for score, free in zip(scores, frees, strict=True)]
            for scores, frees in zip(self.scores, self.free, strict=True)
        ]
        came_from = [[None] * len(frame) for frame in self.frames]
        for t, links in enumerate(self.links):
            for i, targets in enumerate(links):
                for j in targets:
                    if sums[t][i] + self.scores[t + 1][j] > sums[t + 1][j]:
                        sums[t + 1][j] = sums[t][i] + self.scores[t + 1][j]
                        came_from[t + 1][j] = i
        best, t, i = 0.0, None, None
        for frame, values in enumerate(sums):
            for box, value in enumerate(values):
                if value > best:
                    best, t, i = value, frame, box
        if t is None:
            return 0.0, 0, []
        path = [i]
        while came_from[t][i] is not None:
            i = came_from[t][i]
            t -= 1
            path.insert(0, i)
        return best, t, path

    def remove_links(self, t, i):
        if t < len(self.links):
            self.links[t][i] = []
        if t > 0:
            for targets in self.links[t - 1]:
                if i in targets:
                    targets.remove(i)

    def run(self):
        while any(targets for links in self.links for targets in links):
            total, start, path = self.best_path()
            if not path or total < self.min_path_score:
                break
            before = [self.scores[start + k][i] for k, i in enumerate(path)]
            mean, highest = total / len(path), max(before)
            new = {"mean": mean, "max": highest, "mean_max": 0.5 * mean + 0.5 * highest}
            for k, i in enumerate(path):
                t = start + k
                self.scores[t][i] = new[self.rescore]
                overlaps = inclusive_ious(self.boxes[t][i], self.boxes[t])
                for j in np.flatnonzero(overlaps >= self.nms_iou).tolist():
                    if self.free[t][j]:
                        self.free[t][j] = False
                        self.suppressed[t][j] = j != i
                        self.remove_links(t, j)
            if len(path) > 1:
                self.paths.append([(start + k, i) for k, i in enumerate(path)])
        track_of = {place: n for n, path in enumerate(self.paths) for place in path}
        return [
            [
                {**d, "score": self.scores[t][i], "path": track_of.get((t, i))}
                for i, d in enumerate(frame)
                if not self.suppressed[t][i]
            ]
            for t, frame in enumerate(self.frames)
        ]


def plain_seq_nms(
    detections, variant, rescore, link_iou=0.5, nms_iou=0.3, min_path_score=1e-2, num_frames=None
):
    """Seq-NMS of one video; see the module for the form of detections."""
    if num_frames is None:
        num_frames = 1 + max((d["frame"] for d in detections), default=0)
    ordered = sorted(detections, key=lambda d: (-d["score"], *d["box"]))
    ordered = [{**d, "rank": rank} for rank, d in enumerate(ordered)]
    result, tracks = [], []
    for class_id in sorted({d["class"] for d in detections}):
        frames = [
            [d for d in ordered if d["frame"] == t and d["class"] == class_id]
            for t in range(num_frames)
        ]
        if variant == "seq_nms_plus":
            frames = [ordinary_nms(frame, nms_iou) for frame in frames]
        frames = OneClass(frames, link_iou, nms_iou, rescore, min_path_score).run()
        if variant == "seq_nms":
            frames = [ordinary_nms(frame, nms_iou) for frame in frames]
        kept = [d for frame in frames for d in frame]
        paths = sorted({d["path"] for d in kept} - {None})
        tracks += [[d for d in kept if d["path"] == path] for path in paths]
        for detection in kept:
            detection["track"] = -1
        result += kept
    # Tracks are counted by their first frame, then class, then the order of their first boxes.
    tracks.sort(key=lambda boxes: (boxes[0]["frame"], boxes[0]["class"], boxes[0]["rank"]))
    for number, boxes in enumerate(tracks, start=1):
        for detection in boxes:
            detection["track"] = number
    return result
