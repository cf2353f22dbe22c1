"""How good the alignment of a video detector is: end-point error against tracks, and residual."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iff_detectron2.data.dataset_mapper import boxes_by_track
from iff_detectron2.layers import flow_warp
from iff_detectron2.modeling import FlowGuidedAggregator, FrameMemory
from iff_detectron2.modeling.codes import CodesOfFrames
from iff_detectron2.modeling.track_motion import SPEEDS, Tracks, end_point_errors
from iff_detectron2.modeling.video_pass import FusionRequest
from iff_detectron2.structures import TemporalWindow

# A gain of the residual, or of the end-point error, below this share counts as none.
LEAST_GAIN = 0.05


@dataclass
class AlignmentQuality:
    """What was measured over many pairs of frames.

    Attributes:
        moved: true displacement of tracked objects in cells, by offset in frames (its amount).
        errors: distance of the flow to it, likewise.
        unspoilt: of objects that nothing spoils in either frame, where that is known: true
            displacement and error.
        ground: of the ground, where its motion is known: true displacement and error of each pair.
        residual: of each pair, mean absolute difference of the features to the key frame's: as they
            are, and moved by the flow.
    """

    moved: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    errors: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    unspoilt: list[tuple[float, float]] = field(default_factory=list)
    ground: list[tuple[float, float]] = field(default_factory=list)
    residual: list[tuple[float, float]] = field(default_factory=list)

    def rows(self) -> list[tuple[str, int, float, float]]:
        """Return name, count, mean error and that of zero flow, by offset, by speed, of ground."""
        rows = [
            (f"offset {offset}", np.array(self.moved[offset]), np.array(self.errors[offset]))
            for offset in sorted(self.moved)
        ]
        if rows:
            rows += _by_speed(*(np.concatenate([row[i] for row in rows]) for i in (1, 2)))
        if self.unspoilt:
            moved, errors = np.array(self.unspoilt).T
            rows += _by_speed(moved, errors, ", unspoilt")
        if self.ground:
            rows.append(("ground", *np.array(self.ground).T))
        return [
            (name, len(moved), float(errors.mean()), float(moved.mean()))
            for name, moved, errors in rows
            if len(moved)
        ]

    def mean_error(self) -> tuple[float, float] | None:
        """Mean error of all objects, and that of zero flow; None without tracks."""
        if not any(self.moved.values()):
            return None
        error, zero = (np.concatenate(list(x.values())) for x in (self.errors, self.moved))
        return float(error.mean()), float(zero.mean())

    @property
    def residual_ratio(self) -> float:
        """Mean residual of the features after the warp over that before."""
        before, after = np.array(self.residual).mean(axis=0)
        return float(after / max(before, 1e-12))

    @property
    def helps(self) -> bool | None:
        """Whether the flow is better than none, by the tracks if there are any; None: unknown."""
        measured = self.mean_error()
        if measured is not None:
            return measured[0] < (1 - LEAST_GAIN) * measured[1]
        return self.residual_ratio < 1 - LEAST_GAIN if self.residual else None


def _by_speed(
    moved: np.ndarray, errors: np.ndarray, suffix: str = ""
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    rows: list[tuple[str, np.ndarray, np.ndarray]] = []
    for low, high in SPEEDS.values():
        chosen = (moved >= low) & (moved < high)
        name = f"moved {low:g} to {high:g} cells" if high < np.inf else f"moved > {low:g}"
        rows.append((name + suffix, moved[chosen], errors[chosen]))
    return rows


@dataclass(frozen=True)
class _Pair:
    """A key frame and its reference frames, and the flow that was estimated between them."""

    key: int
    refs: list[int]
    feature: Tensor
    ref_features: Tensor
    flow: Tensor
    stride: float


@torch.no_grad()
def _pairs(
    model: Any, video_id: str, images: Iterable[Tensor], offsets: Sequence[int], every: int
) -> Iterator[_Pair]:
    """Estimate the flow of every n-th frame of a video to the frames that lie `offsets` away."""
    temporal, memory = getattr(model, "temporal", None), FrameMemory()
    if temporal is None:
        raise ValueError(f"{type(model).__name__} has no temporal part: it does not align")
    reach = max(abs(o) for o in offsets)
    level = temporal.flow_level or next(
        (n for n, a in temporal.aggregators.items() if a.estimates_flow), ""
    )
    if not level:
        raise ValueError("the model's aggregator does not align: it has no flow to measure")
    frames = list(images)
    with temporal.stream(memory, TemporalWindow(2 * reach)):
        for t in range(len(frames) + reach):
            if t < len(frames):
                sample = {"image": frames[t], "video_id": video_id, "frame_index": t}
                model.observe({**sample, "video_length": len(frames)})
            key = t - reach
            refs = [key + o for o in offsets if 0 <= key + o < len(frames)]
            if key < 0 or key % every or not refs:
                continue
            codes = memory.branch(0)
            aggregation = temporal.fuse_one(FusionRequest(key, refs, [], memory), codes)[level]
            own, others = (codes.gather(t)[level]["feature"] for t in ([key], refs))
            yield _Pair(key, refs, own, others, aggregation.flow, temporal.strides[level])


def measure_alignment(
    model: Any,
    videos: Mapping[str, Iterable[Tensor]],
    tracks: Mapping[str, Sequence[Tracks]],
    *,
    offsets: Sequence[int] = (-5, -3, -1, 1, 3, 5),
    every: int = 4,
    ground_motion: Callable[[str, int, int], np.ndarray] | None = None,
    spoilt: Callable[[str, int], Collection[int | str]] | None = None,
) -> AlignmentQuality:
    """Measure the flow of a video detector on whole videos.

    Args:
        model: a video detector in evaluation mode.
        videos: images of each video in the network's size, [3, H, W], as its input is.
        tracks: for each video the tracks of each frame, in the same pixels; a video may be missing.
        offsets: reference frames of a key frame.
        every: every n-th frame is a key frame.
        ground_motion: of a video and two frames, the displacement of the ground in pixels, (dx,
            dy), where that is known; measured on cells that no box is near.
        spoilt: of a video and a frame, the tracks that something spoils there, where that is known.

    Raises:
        ValueError: the model estimates no flow.
    """
    quality = AlignmentQuality()
    for video_id, images in videos.items():
        known = tracks.get(video_id, ())
        for pair in _pairs(model, video_id, images, offsets, every):
            warped = flow_warp(pair.ref_features, pair.flow)
            for i, ref in enumerate(pair.refs):
                offset, flow = abs(ref - pair.key), pair.flow[i : i + 1]
                quality.residual.append(
                    (
                        float((pair.ref_features[i] - pair.feature[0]).abs().mean()),
                        float((warped[i] - pair.feature[0]).abs().mean()),
                    )
                )
                if not known:
                    continue
                both = known[pair.key], known[ref]
                result = end_point_errors(flow, both, pair.stride)
                quality.moved[offset] += result.moved.tolist()
                quality.errors[offset] += result.error.tolist()
                if spoilt is not None:
                    bad = {*spoilt(video_id, pair.key), *spoilt(video_id, ref)}
                    good = {track: box for track, box in both[0].items() if track not in bad}
                    result = end_point_errors(flow, (good, both[1]), pair.stride)
                    quality.unspoilt += zip(
                        result.moved.tolist(), result.error.tolist(), strict=True
                    )
                if ground_motion is not None:
                    motion = np.asarray(ground_motion(video_id, pair.key, ref)) / pair.stride
                    cells = _ground_cells(flow.shape[-2:], both, motion, pair.stride)
                    if cells.any():
                        true = torch.as_tensor(motion, dtype=torch.float32).view(2, 1, 1)
                        error = (flow[0].float().cpu() - true).norm(dim=0)[cells].mean()
                        quality.ground.append((float(np.hypot(*motion)), float(error)))
    return quality


def _ground_cells(
    size: Sequence[int], tracks: Iterable[Tracks], motion: np.ndarray, stride: float
) -> Tensor:
    """Cells that no box is near in either frame, and that stay in the map, bool [H, W]."""
    height, width = size
    ground = torch.zeros(height, width, dtype=torch.bool)
    x, y = (int(np.ceil(abs(m))) + 1 for m in motion)
    ground[y : height - y, x : width - x] = True
    for boxes in tracks:
        for box in boxes.values():
            x1, y1, x2, y2 = (int(v) for v in (box / stride).floor())
            ground[max(y1 - 1, 0) : max(y2 + 2, 0), max(x1 - 1, 0) : max(x2 + 2, 0)] = False
    return ground


def tracks_of(annotations: Iterable[Mapping[str, Any]], scale: Sequence[float]) -> Tracks:
    """Boxes of a frame by track id.

    Args:
        annotations: those of a dataset dict; boxes without a track are left out.
        scale: pixels of the network's input per pixel of the frame, (x, y).
    """
    factor = torch.tensor([*scale, *scale], dtype=torch.float32)
    boxes = boxes_by_track(annotations)
    return {track: factor * torch.tensor(box) for track, box in boxes.items()}


@contextmanager
def replaced_flow(model: Any, flow_of: Callable[[FusionRequest, Tensor], Tensor]) -> Iterator[None]:
    """Let a model fuse with another flow than it estimates, to see what its flow is worth.

    Args:
        model: a video detector in evaluation mode.
        flow_of: of the request at hand and the estimated flow [T, 2, H, W], the flow to use.
    """
    temporal = model.temporal
    fuse_one = temporal.fuse_one
    requests: list[FusionRequest] = []

    def noting(request: FusionRequest, frames: CodesOfFrames) -> Any:
        requests[:] = [request]
        return fuse_one(request, frames)

    changed = [a for a in temporal.aggregators.values() if isinstance(a, FlowGuidedAggregator)]
    estimates = [a._flow for a in changed]
    temporal.fuse_one = noting
    for aggregator, estimate in zip(changed, estimates, strict=True):
        aggregator._flow = lambda *args, own=estimate: flow_of(requests[0], own(*args))
    try:
        yield
    finally:
        del temporal.fuse_one
        for aggregator in changed:
            del aggregator._flow


def advice(quality: AlignmentQuality) -> str:
    """Say in one sentence whether alignment helps on what was measured, and what to set if not.

    The tracks decide where there are any: a residual can fall without the flow being the motion.
    """
    if quality.helps is None:
        return "alignment was not measured: there was no pair of frames"
    measured = quality.mean_error()
    if measured is not None:
        error, zero = measured
        what = f"the flow is {error:.2f} cells off the tracks and zero flow {zero:.2f}"
    else:
        ratio = quality.residual_ratio
        what = f"the features differ by {ratio:.2f} of what they do without the flow"
    if quality.helps:
        return f"alignment helps here: {what}"
    return (
        f"alignment does not help here ({what}): try TEST.VIDEO.NUM_REFS 2 or 0, a larger "
        "MODEL.IFF.FLOW.MAX_DISPLACEMENT if objects move farther than it between frames, or a "
        "smaller INPUT.VIDEO.MAX_OFFSET and longer training"
    )
