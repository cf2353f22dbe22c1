"""Rules for boxes: inclusive areas and IoU, motion IoU of tracks and FGFA's categories of it."""

from __future__ import annotations

import numpy as np

MOTION_WINDOW = 10  # frames to each side, FGFA
# Lowest and highest motion IoU, both inclusive (vid_protocol, Evaluation 2).
MOTION_CATEGORIES = {"slow": (0.9, 1.0), "medium": (0.7, 0.9), "fast": (0.0, 0.7)}


def inclusive_iou(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Return the IoU of boxes row by row, with FGFA's inclusive pixels (width = x2 - x1 + 1).

    Args:
        boxes1: shape [N, 4], XYXY.
        boxes2: shape [N, 4], XYXY.

    Returns:
        Shape [N], float64, in [0, 1].
    """
    return _iou(boxes1, boxes2, 1.0)


def plain_iou(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Return the IoU of boxes row by row, width = x2 - x1; arguments as for `inclusive_iou`."""
    return _iou(boxes1, boxes2, 0.0)


def _iou(boxes1: np.ndarray, boxes2: np.ndarray, border: float) -> np.ndarray:
    a = np.asarray(boxes1, dtype=np.float64).T
    b = np.asarray(boxes2, dtype=np.float64).T
    width = np.minimum(a[2], b[2]) - np.maximum(a[0], b[0]) + border
    height = np.minimum(a[3], b[3]) - np.maximum(a[1], b[1]) + border
    # Both factors are clipped: two negative ones would make a positive area.
    intersection = np.maximum(width, 0) * np.maximum(height, 0)
    area_a, area_b = ((c[2] - c[0] + border) * (c[3] - c[1] + border) for c in (a, b))
    return intersection / (area_a + area_b - intersection)


def inclusive_area(boxes: np.ndarray) -> np.ndarray:
    """Return the areas of XYXY boxes [N, 4] with inclusive pixels, [N], float64."""
    x1, y1, x2, y2 = np.asarray(boxes, dtype=np.float64).T
    return (x2 - x1 + 1) * (y2 - y1 + 1)


def motion_iou(
    boxes: np.ndarray,
    videos: np.ndarray,
    frame_indices: np.ndarray,
    track_ids: np.ndarray,
    window: int = MOTION_WINDOW,
) -> np.ndarray:
    """Compute the motion IoU of every box from its track.

    The motion IoU of a box at frame t is the mean inclusive (+1) IoU with the boxes of the same
    track at frames t - window .. t + window without t, over the frames where the track is
    present. A box whose track has no other frame in the window gets 1.0: nothing moved as far as
    the labels tell, so it counts as slow. FGFA, section 4; vid_protocol, Evaluation 2.

    Args:
        boxes: shape [G, 4], XYXY in pixels.
        videos: shape [G], integer that tells the videos apart.
        frame_indices: shape [G], position of the frame in its video.
        track_ids: shape [G], integer that tells the tracks of a video apart.
        window: frames to each side.

    Returns:
        Shape [G], float64, in [0, 1].

    Raises:
        ValueError: if a track has two boxes in one frame, or the lengths differ.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    videos, frame_indices, track_ids = (
        np.asarray(values, dtype=np.int64).reshape(-1)
        for values in (videos, frame_indices, track_ids)
    )
    if not len(boxes) == len(videos) == len(frame_indices) == len(track_ids):
        raise ValueError(
            f"boxes, videos, frame_indices and track_ids have {len(boxes)}, {len(videos)}, "
            f"{len(frame_indices)} and {len(track_ids)} rows; they must have the same number"
        )
    if window < 1:
        raise ValueError(f"window is {window}; it must be at least 1 frame")
    order = np.lexsort((frame_indices, track_ids, videos))
    boxes, video, frame, track = (
        values[order] for values in (boxes, videos, frame_indices, track_ids)
    )
    total = np.zeros(len(order))
    partners = np.zeros(len(order), dtype=np.int64)
    # Frames of a track ascend without repeats, so that partners are at most `window` rows away.
    for step in range(1, min(window, len(order) - 1) + 1):
        same_track = (video[step:] == video[:-step]) & (track[step:] == track[:-step])
        gap = frame[step:] - frame[:-step]
        if step == 1 and (same_track & (gap == 0)).any():
            row = int(order[int(np.argmax(same_track & (gap == 0)))])
            raise ValueError(
                f"Track {track_ids[row]} has two boxes in frame {frame_indices[row]} of video "
                f"number {videos[row]}; a track id must be unique in its frame"
            )
        first = np.flatnonzero(same_track & (gap <= window))
        overlap = inclusive_iou(boxes[first], boxes[first + step])
        total[first] += overlap
        total[first + step] += overlap
        partners[first] += 1
        partners[first + step] += 1
    mean = np.divide(total, partners, out=np.ones_like(total), where=partners > 0)
    result = np.empty_like(mean)
    result[order] = np.minimum(mean, 1.0)  # rounding may carry a mean of ones above one
    return result
