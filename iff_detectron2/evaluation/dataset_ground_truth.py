"""Ground truth arrays from Detectron2 dataset dicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from iff_detectron2.data.datasets.imagenet.motion_iou_file import read_fgfa_motion_iou
from iff_detectron2.structures import GroundTruth
from iff_detectron2.structures.boxes import motion_iou

Record = dict[str, Any]


def ground_truth_from_dicts(
    dataset_dicts: Sequence[Record],
    class_names: Sequence[str],
    motion_iou_file: str | Path | None = None,
    with_motion: bool = True,
) -> GroundTruth:
    """Collect the ground truth of a dataset; frame rows follow the order of the dicts.

    Args:
        dataset_dicts: Detectron2's, `annotations` with `bbox`, `bbox_mode`, `category_id`, maybe
            `iscrowd`, `area` and `track_id`; frames with `video_id` and `frame_index` for tracks
            and motion IoU.
        class_names: one name a class.
        motion_iou_file: FGFA's .mat for these frames, instead of motion IoU from track ids.
        with_motion: False leaves motion IoU out, for protocols that do not ask for it.

    Returns:
        The boxes. `motion_iou` is None, with the reason, where track ids or videos are missing.

    Raises:
        ValueError: if an annotation is incomplete or unusable, naming its image_id, or a track
            has two boxes in a frame.
    """
    pairs = [
        (row, annotation)
        for row, record in enumerate(dataset_dicts)
        for annotation in record.get("annotations", ())
    ]
    for row, annotation in pairs:
        missing = {"bbox", "bbox_mode", "category_id"} - annotation.keys()
        if missing:
            raise ValueError(
                f"image_id {dataset_dicts[row]['image_id']}: an annotation has no "
                f"{', '.join(sorted(missing))}; it needs bbox, bbox_mode and category_id"
            )
    frames = np.array([row for row, _ in pairs], dtype=np.int64)
    boxes, sizes = _boxes_and_sizes([annotation for _, annotation in pairs])
    classes = np.array([annotation["category_id"] for _, annotation in pairs], dtype=np.int64)
    _check_boxes(dataset_dicts, frames, boxes, classes, len(class_names))

    unknown = _why_no_tracks(dataset_dicts, pairs)
    tracks = places = None
    if not unknown:
        if with_motion:
            _check_tracks(dataset_dicts, pairs)
        tracks, places = _tracks_and_places(dataset_dicts, pairs)
        if len(np.unique(np.stack([frames, tracks]), axis=1).T) < len(frames):
            tracks = places = None  # the protocol at hand can do without
    motion, note = None, "motion IoU was not asked for"
    if motion_iou_file is not None:
        counts = np.bincount(frames, minlength=len(dataset_dicts))
        motion = read_fgfa_motion_iou(motion_iou_file, counts.tolist())
    elif with_motion:
        note = unknown
        if tracks is not None and places is not None:
            motion = motion_iou(boxes, places[frames, 0], places[frames, 1], tracks)
    return GroundTruth(
        num_frames=len(dataset_dicts),
        class_names=tuple(class_names),
        frames=frames,
        boxes=boxes,
        classes=classes,
        ignored=np.array([bool(a.get("iscrowd", 0)) for _, a in pairs], dtype=bool),
        motion_iou=motion,
        motion_note=note,
        sizes=sizes,
        areas=_areas([annotation for _, annotation in pairs], sizes),
        tracks=tracks,
        places=places,
    )


def _boxes_and_sizes(annotations: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
    """Return all boxes as XYXY_ABS, [G, 4], converted once a mode, and their sizes, [G, 2]."""
    modes = np.array([int(annotation["bbox_mode"]) for annotation in annotations], dtype=np.int64)
    boxes, sizes = np.zeros((len(annotations), 4)), np.zeros((len(annotations), 2))
    for mode in np.unique(modes):
        rows = np.flatnonzero(modes == mode)
        raw = np.array([annotations[row]["bbox"] for row in rows], dtype=np.float64)
        boxes[rows] = BoxMode.convert(raw, BoxMode(int(mode)), BoxMode.XYXY_ABS)
        given = mode == BoxMode.XYWH_ABS
        sizes[rows] = raw[:, 2:] if given else boxes[rows, 2:] - boxes[rows, :2]
    return boxes, sizes


def _areas(annotations: Sequence[Record], sizes: np.ndarray) -> np.ndarray | None:
    """Return the annotated areas, that of the box where there is none; None without any."""
    given = [annotation.get("area") for annotation in annotations]
    if all(area is None for area in given):
        return None
    boxes = sizes.prod(axis=1).tolist()
    return np.array([b if a is None else a for a, b in zip(given, boxes, strict=True)], dtype=float)


def _check_boxes(
    dataset_dicts: Sequence[Record],
    frames: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    num_classes: int,
) -> None:
    usable = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] >= boxes[:, :2]).all(axis=1)
    usable &= (classes >= 0) & (classes < num_classes)
    if not usable.all():
        row = int(np.argmin(usable))
        raise ValueError(
            f"image_id {dataset_dicts[frames[row]]['image_id']}: ground truth box "
            f"{boxes[row].tolist()} (x1, y1, x2, y2) of category {classes[row]} is not usable; "
            f"it needs finite x2 >= x1 and y2 >= y1, and a category in 0..{num_classes - 1}"
        )


def _why_no_tracks(dataset_dicts: Sequence[Record], pairs: Sequence[tuple[int, Record]]) -> str:
    """Say what is missing for tracks and motion IoU, an empty text if nothing is."""
    without_track = sum(annotation.get("track_id") is None for _, annotation in pairs)
    if without_track:
        return f"track_id is missing in {without_track} of {len(pairs)} annotations"
    for key in ("video_id", "frame_index"):
        without = sum(record.get(key) is None for record in dataset_dicts)
        if without:
            return f"{key} is missing in {without} of {len(dataset_dicts)} frames"
    return ""


def _tracks_and_places(
    dataset_dicts: Sequence[Record], pairs: Sequence[tuple[int, Record]]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the track of each box, [G], and video and index of each frame, [F, 2], as numbers."""
    numbers: dict[Any, int] = {}
    videos = [numbers.setdefault(record["video_id"], len(numbers)) for record in dataset_dicts]
    indices = [record["frame_index"] for record in dataset_dicts]
    # Track ids may be names (`001_left`), and are unique in their video only.
    tracks: dict[Any, int] = {}
    keys = [(videos[row], annotation["track_id"]) for row, annotation in pairs]
    of_boxes = [tracks.setdefault(key, len(tracks)) for key in keys]
    places = np.array([videos, indices], dtype=np.int64).T.reshape(-1, 2)
    return np.array(of_boxes, dtype=np.int64), places


def _check_tracks(dataset_dicts: Sequence[Record], pairs: Sequence[tuple[int, Record]]) -> None:
    places = {(record["video_id"], record["frame_index"]) for record in dataset_dicts}
    if len(places) != len(dataset_dicts):
        raise ValueError("Two frames of the dataset have the same video_id and frame_index")
    seen = set()
    for row, annotation in pairs:
        key = (row, annotation["track_id"])
        if key in seen:
            raise ValueError(
                f"image_id {dataset_dicts[row]['image_id']} (video "
                f"{dataset_dicts[row]['video_id']}, frame {dataset_dicts[row]['frame_index']}): "
                f"track_id {annotation['track_id']} has two boxes; make track ids unique in a "
                "frame, or use protocol 'devkit', which needs none"
            )
        seen.add(key)
