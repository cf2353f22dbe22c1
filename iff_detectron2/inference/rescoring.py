"""Seq-NMS on a file of saved predictions, video by video, without model or data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from iff_detectron2.evaluation import EvaluationDataset
from iff_detectron2.postprocessing import SeqNMSOptions, rescore_detections
from iff_detectron2.predictions import count_tracks, iterate_videos, open_predictions_json
from iff_detectron2.predictions.frame_list import Frame
from iff_detectron2.structures import Detections
from iff_detectron2.utils.parallel import map_in_order, usable_cores

Video = tuple[list[Frame], Detections]


@dataclass
class RescoredFile:
    """What was read and written: numbers to report, and what is kept for files of tracks.

    Attributes:
        num_videos: videos with detections.
        num_detections: detections that were read.
        num_kept: detections that stay.
        num_tracks: tracks of all videos.
        frames_without: frames without detection between two with detections of a video.
        first_without: where the first of them is.
        frames: frames with detections of all videos, if the detections were asked for.
        detections: those that stay, likewise, with rows of `frames`; `classes` are category ids.
        class_names: names by category id; None without a dataset.
    """

    num_videos: int = 0
    num_detections: int = 0
    num_kept: int = 0
    num_tracks: int = 0
    frames_without: int = 0
    first_without: str = ""
    frames: list[Frame] = field(default_factory=list)
    detections: Detections = field(default_factory=Detections.empty)
    class_names: dict[int, str] | None = None


def rescore_predictions(
    path: str | Path,
    out: str | Path,
    options: SeqNMSOptions | None = None,
    *,
    dataset: EvaluationDataset | None = None,
    all_frames: bool = False,
    keep: bool = False,
    num_workers: int | None = None,
    progress: bool = False,
) -> RescoredFile:
    """Apply Seq-NMS to a file of saved predictions; a few videos are in memory at a time.

    Args:
        path: COCO-style results (`.json`) with `video_id` and `frame_index`, the frames of a video
            in order; or FGFA's text form, with `dataset`.
        out: file for the results: COCO-style, with `track_id` for boxes on a track.
        options: settings; Seq-NMS+ by default.
        dataset: what the predictions are of: frames and categories are checked against it, and
            tracks get the names of its classes.
        all_frames: raise if a frame within a video has no detection, which ends paths.
        keep: collect the detections that stay.
        num_workers: threads; None for all usable cores.
        progress: show a progress bar.

    Returns:
        Numbers of what was done, and the detections if asked for.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: a file that is cut off or out of order, a detection that cannot be used, or a
            frame or category that is not of the dataset, with its place.
        ImportError: if numba is missing.
    """
    path, options = Path(path), options or SeqNMSOptions()
    num_workers = num_workers or usable_cores()
    result, parts = RescoredFile(), []
    if dataset is not None:
        classes = dataset.ground_truth.class_names
        result.class_names = dict(zip(dataset.category_ids, classes, strict=True))
    elif path.suffix.lower() != ".json":
        raise ValueError(
            f"{path}: FGFA's text form does not name videos; say what dataset it is of"
        )

    def rescore(video: Video) -> tuple[list[Frame], int, Detections]:
        frames, found = video
        return frames, len(found), _rescore_video(path, frames, found, options, dataset)

    videos = iterate_videos(path, None if dataset is None else dataset.frames)
    with (
        open_predictions_json(out) as append,
        tqdm(desc=options.variant, unit="video", disable=not progress) as bar,
    ):
        for frames, num_read, kept in map_in_order(rescore, videos, num_workers):
            _count_missing(frames, result)
            if all_frames and result.frames_without:
                raise ValueError(f"{path}: {result.first_without} has no detection")
            result.num_videos += 1
            result.num_detections += num_read
            result.num_kept += len(kept)
            result.num_tracks += count_tracks(kept, frames)
            append(kept, frames, None)
            if keep:
                parts.append(replace(kept, frames=kept.frames + len(result.frames)))
                result.frames += frames
            bar.update()
    result.detections = Detections.concatenate(parts)
    return result


def _rescore_video(
    path: Path,
    frames: Sequence[Frame],
    found: Detections,
    options: SeqNMSOptions,
    dataset: EvaluationDataset | None,
) -> Detections:
    def describe(row: int) -> str:
        frame = frames[found.frames[row]]
        place = f"frame {frame['frame_index']} of video {frame['video_id']!r}"
        return f"{path}, image_id {frame['image_id']!r} ({place})"

    if dataset is not None:
        known = np.array(dataset.category_ids)
        if path.suffix.lower() != ".json":  # its classes count from 1
            known = np.arange(1, len(known) + 1)
        unknown = ~np.isin(found.classes, known)
        if unknown.any():
            row = int(np.argmax(unknown))
            raise ValueError(
                f"{describe(row)}: category {found.classes[row]} is not one of the dataset's: "
                f"{', '.join(map(str, known))}"
            )
        order = np.argsort(known)
        place = order[np.searchsorted(known[order], found.classes)]
        found = replace(found, classes=np.array(dataset.category_ids)[place])
    return rescore_detections(found, options, frames=frames, describe=describe, num_workers=1)[0]


def _count_missing(frames: Sequence[Frame], result: RescoredFile) -> None:
    indices = np.array([frame["frame_index"] for frame in frames], dtype=np.int64)
    steps = np.diff(indices)
    if not result.frames_without and (steps > 1).any():
        frame = indices[np.argmax(steps > 1)] + 1
        result.first_without = f"frame {frame} of video {frames[0]['video_id']!r}"
    result.frames_without += int((steps - 1).sum())
