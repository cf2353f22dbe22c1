"""Generates a whole MovingShapes set, several videos at a time."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from iff_detectron2.data.datasets.imagenet.list_rules import train_list_lines, val_list_lines
from iff_detectron2.utils.files import open_atomically
from iff_detectron2.utils.folder_lock import owned_folder
from iff_detectron2.utils.parallel import usable_cores

from .casting import SPLITS, Role, cast_split
from .classes import MOVING_SHAPES_CLASSES
from .contact_sheet import draw_contact_sheet
from .options import MovingShapesOptions
from .storage import (
    CONTACT_SHEET,
    MARKER,
    VERSION,
    check_writable,
    content_digest,
    find_complete,
    list_path,
    remove_own_files,
)
from .writer import VideoRecord, write_video

# A worker process takes seconds to start: it has to have this many frames to be worth it.
_FRAMES_PER_WORKER = 1200

_Task = tuple[str, int, list[Role]]


def generate_moving_shapes(
    root: str | os.PathLike[str],
    *,
    num_workers: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
    **fields: Any,
) -> dict[str, Any]:
    """Write a MovingShapes set in the layout of ImageNet VID, unless it is there already.

    The same options make the same bytes, whatever the number of workers. The marker
    `moving_shapes.json` is written last and tells the content of all others: a set without it, or
    of which a file is missing or damaged, is made anew.

    Args:
        root: dataset root to write to, as `datasets/moving_shapes`.
        num_workers: processes; None takes as many as there are usable cores and work for.
        overwrite: replace a set made with other options.
        progress: show a progress bar.
        **fields: options of the set, see `MovingShapesOptions`.

    Returns:
        Content of the marker: version, options, and counts of each split.

    Raises:
        ValueError, TypeError: an option is out of range or of a wrong type.
        FileExistsError: another set, or files of others, would be overwritten.
        BlockingIOError: another process writes into the folder.
    """
    options = MovingShapesOptions(**fields)
    if num_workers is not None and num_workers < 1:
        raise ValueError(f"num_workers must be at least 1, got {num_workers}")
    root = Path(root)
    marker = find_complete(root, options)
    if marker is not None:
        return marker
    check_writable(root, options, overwrite=overwrite)
    with owned_folder(root):
        # Another process may have ended in between.
        check_writable(root, options, overwrite=overwrite)
        return find_complete(root, options) or _generate(root, options, num_workers, progress)


def _generate(
    root: Path, options: MovingShapesOptions, num_workers: int | None, progress: bool
) -> dict[str, Any]:
    remove_own_files(root)
    tasks: list[_Task] = [
        (split, index, roles)
        for split in SPLITS
        for index, roles in enumerate(cast_split(options, split))
    ]
    total_frames = sum(options.video_length(split) for split, _, _ in tasks)
    if num_workers is None:
        num_workers = min(usable_cores(), math.ceil(total_frames / _FRAMES_PER_WORKER))
    records: dict[tuple[str, int], VideoRecord] = {}
    with tqdm(total=len(tasks), desc="MovingShapes", unit="video", disable=not progress) as bar:
        for key, record in _write_all(root, options, tasks, num_workers):
            records[key] = record
            bar.update()
    return _finish(root, options, records)


def _write_all(
    root: Path, options: MovingShapesOptions, tasks: list[_Task], num_workers: int
) -> Iterator[tuple[tuple[str, int], VideoRecord]]:
    """Write all videos, yielding each when it is done."""
    if min(num_workers, len(tasks)) <= 1:
        for split, index, roles in tasks:
            yield (split, index), write_video(root, options, split, index, roles)
        return
    # Not forked: the process may hold threads (of OpenCV, of torch), whose locks a fork copies.
    pool = ProcessPoolExecutor(
        min(num_workers, len(tasks)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=cv2.setNumThreads,
        initargs=(1,),
    )
    try:
        futures = {
            pool.submit(write_video, root, options, split, index, roles): (split, index)
            for split, index, roles in tasks
        }
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _finish(
    root: Path, options: MovingShapesOptions, records: dict[tuple[str, int], VideoRecord]
) -> dict[str, Any]:
    """Write the lists, the contact sheet and, last, the marker."""
    summary = {}
    digests = {}
    # The order of completion depends on the workers; what is written must not.
    ordered = [records[key] for key in sorted(records)]
    for split, make_lines in (("train", train_list_lines), ("val", val_list_lines)):
        videos = [record for record in ordered if record.folder.startswith(f"{split}/")]
        summary[split] = _summarize(videos)
        if videos:
            lines = make_lines([(record.folder, record.num_frames) for record in videos])
            with open_atomically(list_path(root, split)) as stream:
                stream.write("\n".join(lines) + "\n")
            digests[split] = content_digest([list_path(root, split)])
        digests |= {record.folder: record.digest for record in videos}
    sheet = draw_contact_sheet(root, [e for record in ordered for e in record.excerpts])
    done, code = cv2.imencode(".png", sheet)
    if not done:
        raise RuntimeError("OpenCV could not encode the contact sheet as PNG")
    with open_atomically(root / CONTACT_SHEET, binary=True) as stream:
        stream.write(code.tobytes())
    marker = {
        "generator": "MovingShapes",
        "version": VERSION,
        "options": options.to_json(),
        "classes": list(MOVING_SHAPES_CLASSES),
        "splits": summary,
        "digests": digests,
    }
    text = json.dumps(marker, indent=2) + "\n"
    with open_atomically(root / MARKER) as stream:
        stream.write(text)
    return marker


def _summarize(videos: list[VideoRecord]) -> dict[str, Any]:
    boxes: Counter[str] = Counter()
    deteriorations: Counter[str] = Counter()
    for video in videos:
        boxes.update(video.boxes)
        deteriorations.update(video.deteriorations)
    return {
        "videos": len(videos),
        "frames": sum(video.num_frames for video in videos),
        "empty_frames": sum(video.empty_frames for video in videos),
        "boxes": boxes.total(),
        "occluded_boxes": sum(video.occluded_boxes for video in videos),
        "deteriorated_boxes": deteriorations.total(),
        "boxes_by_class": {name: boxes[name] for name in MOVING_SHAPES_CLASSES},
        "deteriorated_boxes_by_kind": dict(sorted(deteriorations.items())),
    }
