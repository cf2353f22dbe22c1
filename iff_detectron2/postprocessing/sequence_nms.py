"""Seq-NMS and Seq-NMS+: scores of boxes that link up over time support each other.

Rules: FGFA's release and the paper, Sec. 3.3. Of each class, boxes of adjacent frames are linked
where their IoU is at least `link_iou`. In each round the path with the largest sum of scores is
chosen, its boxes get a common score, and in each of its frames the boxes that overlap its box by at
least `nms_iou` are suppressed. Chosen boxes take part no more but stay in the result. The rounds
end when the best sum is under `min_path_score` or no link is left in the class; boxes that were
not reached keep their score. Ordinary NMS (suppression over `nms_iou`) comes at the end in Seq-NMS
and at the beginning in Seq-NMS+. All IoUs are inclusive: a box is x2 - x1 + 1 pixels wide.

Where sums are equal, the path that ends in the earlier frame is chosen. Of equal boxes of a frame,
the one with the higher score of its own comes first, then the one with the smaller x1, y1, x2, y2:
as the last box of a path, as the predecessor of a box, and in ordinary NMS. The order in which the
boxes of a frame are given therefore does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from iff_detectron2.structures import NO_TRACK, Detections
from iff_detectron2.utils.parallel import map_in_order, usable_cores

# Ordinary NMS first or last, and the usual rescoring.
VARIANTS = {"seq_nms": (False, "mean"), "seq_nms_plus": (True, "mean_max")}
# Share of a path's highest score in its new score; the rest is its mean.
RESCORINGS = {"mean": 0.0, "max": 1.0, "mean_max": 0.5}


@dataclass(frozen=True)
class SeqNMSOptions:
    """Settings of Seq-NMS.

    Attributes:
        variant: "seq_nms" or "seq_nms_plus".
        link_iou: least IoU of boxes that are linked, in (0, 1].
        nms_iou: IoU at which boxes are suppressed, in (0, 1].
        rescore: new score of a path's boxes: the "mean" or "max" of their scores, or "mean_max",
            half of each. None for the variant's own: the mean, with Seq-NMS+ mean_max.
        min_path_score: least sum of a path's scores.
    """

    variant: str = "seq_nms_plus"
    link_iou: float = 0.5
    nms_iou: float = 0.3
    rescore: str | None = None
    min_path_score: float = 1e-2

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise ValueError(f"variant is {self.variant!r}; choose one of {', '.join(VARIANTS)}")
        if self.rescore is not None and self.rescore not in RESCORINGS:
            raise ValueError(f"rescore is {self.rescore!r}; choose one of {', '.join(RESCORINGS)}")
        for name in ("link_iou", "nms_iou"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be in (0, 1]")
        if not 0 < self.min_path_score < float("inf"):
            raise ValueError(f"min_path_score is {self.min_path_score}; it must be over 0")

    @property
    def nms_first(self) -> bool:
        """Whether ordinary NMS comes before the linking."""
        return VARIANTS[self.variant][0]

    @property
    def weight_of_max(self) -> float:
        """Share of a path's highest score in its new score."""
        return RESCORINGS[self.rescore or VARIANTS[self.variant][1]]


def rescore_detections(
    detections: Detections,
    options: SeqNMSOptions | None = None,
    *,
    frames: Sequence[Mapping[str, Any]] | None = None,
    describe: Callable[[int], str] = "detection {}".format,
    num_workers: int | None = None,
    progress: bool = False,
) -> tuple[Detections, np.ndarray]:
    """Apply Seq-NMS to the detections of any number of videos, several at once.

    Args:
        detections: in any order, scores in [0, 1]; frames without detections interrupt paths.
        options: settings; Seq-NMS+ by default.
        frames: dataset dicts, one per frame row, with `video_id` and `frame_index`; None for one
            video whose frame rows are its frame indices.
        describe: says in error messages where a row comes from.
        num_workers: threads; None for all usable cores.
        progress: show a progress bar.

    Returns:
        The detections that stay, in the order given, with their new scores (float64) and
        `track_ids`: from 1 in each video, over all classes, `NO_TRACK` for boxes that are not on a
        path of two boxes or more. And their rows in `detections`, [M].

    Raises:
        ValueError: a detection that cannot be used, with its place.
        ImportError: if numba is missing.
    """
    rescore_video = load_compiled()
    options = options or SeqNMSOptions()
    _check(detections, describe)
    videos, indices = _places(detections.frames, frames)
    boxes, scores, classes = detections.boxes, detections.scores, detections.classes

    by_video = np.argsort(videos, kind="stable")
    starts = np.flatnonzero(np.diff(videos[by_video], prepend=-1, append=-1))
    kept = np.empty(len(detections), dtype=bool)
    new_scores = np.empty(len(detections))
    track_ids = np.empty(len(detections), dtype=np.int64)

    def run(video: int) -> None:
        rows = by_video[starts[video] : starts[video + 1]]
        x1, y1, x2, y2 = boxes[rows].T
        order = np.lexsort((y2, x2, y1, x1, -scores[rows], indices[rows], classes[rows]))
        rows = rows[order]
        classes_here = classes[rows]
        kept[rows], new_scores[rows], paths = rescore_video(
            boxes[rows].astype(np.float64),
            scores[rows].astype(np.float64),
            indices[rows],
            np.flatnonzero(np.diff(classes_here, prepend=-1, append=-1)),
            options.link_iou,
            options.nms_iou,
            options.weight_of_max,
            options.min_path_score,
            options.nms_first,
        )
        track_ids[rows] = _number_tracks(paths, indices[rows])

    num_videos = max(len(starts) - 1, 0)
    with tqdm(total=num_videos, desc=options.variant, unit="video", disable=not progress) as bar:
        for _ in map_in_order(run, range(num_videos), num_workers or usable_cores()):
            bar.update()
    rows = np.flatnonzero(kept)
    left = replace(detections[rows], scores=new_scores[rows], track_ids=track_ids[rows])
    return left, rows


def seq_nms(
    video: Sequence[Any],
    variant: str = "seq_nms_plus",
    link_iou: float = 0.5,
    nms_iou: float = 0.3,
    rescore: str | None = None,
    min_path_score: float = 1e-2,
) -> list[Any]:
    """Apply Seq-NMS to the detections of a video.

    Plain Seq-NMS wants all boxes over a score of 1e-3, without NMS and without a limit a frame.

    Args:
        video: one `Instances` a frame, in order, with `pred_boxes`, `scores` and `pred_classes`.
        variant: "seq_nms" or "seq_nms_plus".
        link_iou: least IoU of boxes that are linked.
        nms_iou: IoU at which boxes are suppressed.
        rescore: "mean", "max" or "mean_max", half of each; None for the variant's own, which is
            the mean for Seq-NMS (FGFA) and mean_max for Seq-NMS+.
        min_path_score: least sum of a path's scores.

    Returns:
        One `Instances` a frame: those that stay, in the order given and with all their fields,
        with new `scores` and with `track_ids`, int64, from 1; `NO_TRACK` without a track. The
        input is left as it is.

    Raises:
        ValueError: a frame that is missing (None), or a detection that cannot be used, with its
            place.
        ImportError: if numba is missing.
    """
    options = SeqNMSOptions(variant, link_iou, nms_iou, rescore, min_path_score)
    for index, instances in enumerate(video):
        if instances is None:
            raise ValueError(
                f"frame {index} of {len(video)} is missing; give a frame without detections as "
                "Instances without boxes"
            )
    detections = Detections.from_instances(enumerate(video))
    starts = detections.row_starts(len(video))
    frames = detections.frames
    rescored, rows = rescore_detections(
        detections,
        options,
        describe=lambda row: f"frame {frames[row]}: detection {row - starts[frames[row]]}",
        num_workers=1,
    )
    ends, track_ids = rescored.row_starts(len(video)), rescored.tracks()
    result = []
    for index, instances in enumerate(video):
        part = slice(ends[index], ends[index + 1])
        device, dtype = instances.scores.device, instances.scores.dtype
        kept = instances[torch.as_tensor(rows[part] - starts[index], device=device)]
        kept.set("scores", torch.as_tensor(rescored.scores[part], dtype=dtype, device=device))
        kept.set("track_ids", torch.as_tensor(track_ids[part], device=device))
        result.append(kept)
    return result


def load_compiled() -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Import the compiled part.

    Raises:
        ImportError: if numba is missing.
    """
    try:
        from .compiled import rescore_video
    except ImportError as error:
        raise ImportError(
            "Seq-NMS needs numba, which compiles its loops: run `pip install numba`"
        ) from error
    return rescore_video


def _places(
    rows: np.ndarray, frames: Sequence[Mapping[str, Any]] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the number of the video, and the frame index in it, of each row, both [N], int64."""
    if frames is None:
        return np.zeros(len(rows), np.int64), rows.astype(np.int64)
    numbers: dict[Any, int] = {}
    videos = [numbers.setdefault(frame["video_id"], len(numbers)) for frame in frames]
    indices = [frame["frame_index"] for frame in frames]
    return np.array(videos, np.int64)[rows], np.array(indices, np.int64)[rows]


def _check(detections: Detections, describe: Callable[[int], str]) -> None:
    bad = detections.find_bad()
    if bad is not None:
        raise ValueError(f"{describe(bad[0])}: {bad[1]}")
    scores = detections.scores
    usable = (scores >= 0) & (scores <= 1)
    if not usable.all():
        row = int(np.argmin(usable))
        raise ValueError(
            f"{describe(row)}: score {scores[row]} is outside [0, 1]; sums of scores are compared "
            "with min_path_score, so give probabilities"
        )


def _number_tracks(paths: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Turn first rows of paths into ids from 1, ordered by first frame, then class and box."""
    first_rows, path_of_row = np.unique(paths, return_inverse=True)
    on_path = first_rows >= 0
    order = np.flatnonzero(on_path)
    order = order[np.argsort(frames[first_rows[order]], kind="stable")]
    ids = np.full(len(first_rows), NO_TRACK, dtype=np.int64)
    ids[order] = np.arange(1, len(order) + 1)
    return ids[path_of_row]
