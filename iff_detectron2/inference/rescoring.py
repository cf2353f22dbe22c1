"""Seq-NMS on a file of saved predictions, video by video, without model or data."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
from tqdm import tqdm

from iff_detectron2.evaluation import EvaluationDataset, SavedFrame, iterate_videos
from iff_detectron2.postprocessing import SeqNMSOptions, VideoTracks, rescore_detections
from iff_detectron2.structures import NO_TRACK, Detections
from iff_detectron2.utils.files import open_atomically
from iff_detectron2.utils.parallel import usable_cores

In = TypeVar("In")
Out = TypeVar("Out")
Video = tuple[str, list[SavedFrame]]


@dataclass
class RescoredFile:
    """What was read and written.

    Attributes:
        num_videos: videos with detections.
        num_detections: detections that were read.
        num_kept: detections that stay.
        num_tracks: tracks of all videos.
        frames_without: frames without detection between two with detections of a video.
        first_without: where the first of them is.
        tracks: of each video, if they were asked for.
    """

    num_videos: int = 0
    num_detections: int = 0
    num_kept: int = 0
    num_tracks: int = 0
    frames_without: int = 0
    first_without: str = ""
    tracks: list[VideoTracks] = field(default_factory=list)


@dataclass(frozen=True)
class _RescoredVideo:
    """The detections of a video that stay; `classes` are the ids in the file."""

    video_id: str
    frames: list[SavedFrame]
    detections: Detections


def rescore_predictions(
    path: str | Path,
    out: str | Path,
    options: SeqNMSOptions | None = None,
    *,
    dataset: EvaluationDataset | None = None,
    all_frames: bool = False,
    keep_tracks: bool = False,
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
        keep_tracks: collect the tracks.
        num_workers: threads; None for all usable cores.
        progress: show a progress bar.

    Returns:
        Numbers of what was done, and the tracks.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: a file that is cut off or out of order, a detection that cannot be used, or a
            frame or category that is not of the dataset, with its place.
        ImportError: if numba is missing.
    """
    path, options = Path(path), options or SeqNMSOptions()
    num_workers = num_workers or usable_cores()
    names = None
    if dataset is not None:
        classes = dataset.ground_truth.class_names
        names = dict(zip(dataset.category_ids, classes, strict=True))
    elif path.suffix.lower() != ".json":
        raise ValueError(
            f"{path}: FGFA's text form does not name videos; say what dataset it is of"
        )

    def rescore(video: Video) -> _RescoredVideo:
        return _rescore_video(path, video, options, dataset)

    result = RescoredFile()
    videos = iterate_videos(path, None if dataset is None else dataset.frames)
    with (
        open_atomically(out) as stream,
        ThreadPoolExecutor(num_workers) as pool,
        tqdm(desc=options.variant, unit="video", disable=not progress) as bar,
    ):
        stream.write("[")
        for video in _in_order(pool, rescore, videos, ahead=2 * num_workers):
            _count(video, result)
            if all_frames and result.frames_without:
                raise ValueError(f"{path}: {result.first_without} has no detection")
            _write(stream, video, is_first=result.num_kept == len(video.detections))
            if keep_tracks:
                found = video.detections
                result.tracks.append(
                    VideoTracks(
                        video.video_id,
                        _frame_indices(video.frames)[found.frames],
                        found.tracks(),
                        found.boxes,
                        found.scores,
                        found.classes,
                        names,
                    )
                )
            bar.update()
        stream.write("\n]\n")
    return result


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[In], Out], items: Iterable[In], ahead: int
) -> Iterator[Out]:
    """Work on items in parallel and yield the results in order; at most `ahead` are in memory."""
    waiting: deque[Future[Out]] = deque()
    for item in items:
        waiting.append(pool.submit(work, item))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _frame_indices(frames: list[SavedFrame]) -> np.ndarray:
    return np.array([frame.frame_index for frame in frames], dtype=np.int64)


def _rescore_video(
    path: Path, video: Video, options: SeqNMSOptions, dataset: EvaluationDataset | None
) -> _RescoredVideo:
    video_id, frames = video
    numbers = np.repeat(np.arange(len(frames)), [len(frame.scores) for frame in frames])
    boxes = np.concatenate([frame.boxes for frame in frames])
    categories = np.concatenate([frame.category_ids for frame in frames])

    def describe(row: int) -> str:
        frame = frames[numbers[row]]
        place = f"frame {frame.frame_index} of video {video_id!r}"
        return f"{path}, image_id {frame.image_id!r} ({place})"

    if dataset is not None:
        known = np.array(dataset.category_ids)
        if path.suffix.lower() != ".json":  # its classes count from 1
            known = np.arange(1, len(known) + 1)
        unknown = ~np.isin(categories, known)
        if unknown.any():
            row = int(np.argmax(unknown))
            raise ValueError(
                f"{describe(row)}: category {categories[row]} is not one of the dataset's: "
                f"{', '.join(map(str, known))}"
            )
        order = np.argsort(known)
        place = order[np.searchsorted(known[order], categories)]
        categories = np.array(dataset.category_ids)[place]
    indices = _frame_indices(frames)
    rescored, _ = rescore_detections(
        Detections(numbers, boxes, np.concatenate([frame.scores for frame in frames]), categories),
        options,
        frames=[{"video_id": video_id, "frame_index": index} for index in indices],
        describe=describe,
        num_workers=1,
    )
    return _RescoredVideo(video_id, frames, rescored)


def _count(video: _RescoredVideo, result: RescoredFile) -> None:
    indices = _frame_indices(video.frames)
    steps = np.diff(indices)
    if not result.frames_without and (steps > 1).any():
        frame = indices[np.argmax(steps > 1)] + 1
        result.first_without = f"frame {frame} of video {video.video_id!r}"
    result.frames_without += int((steps - 1).sum())
    result.num_videos += 1
    result.num_detections += sum(len(frame.scores) for frame in video.frames)
    result.num_kept += len(video.detections)
    result.num_tracks += int(video.detections.tracks().max(initial=0))


def _write(stream: IO[str], video: _RescoredVideo, is_first: bool) -> None:
    separator = "\n" if is_first else ",\n"
    for number, (x1, y1, x2, y2), score, category_id, track_id in zip(
        video.detections.frames.tolist(),
        video.detections.boxes.tolist(),
        video.detections.scores.tolist(),
        video.detections.classes.tolist(),
        video.detections.tracks().tolist(),
        strict=True,
    ):
        result = {
            "image_id": video.frames[number].image_id,
            "video_id": video.video_id,
            "frame_index": video.frames[number].frame_index,
            "category_id": category_id,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        if track_id != NO_TRACK:
            result["track_id"] = track_id
        stream.write(separator + json.dumps(result))
        separator = ",\n"
