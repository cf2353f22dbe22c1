"""What track ids say of the true motion: a loss on the flow, and its end-point error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Tracks = Mapping[int | str, Tensor]
"""Boxes of one frame by track id: x1, y1, x2, y2 in pixels of the network's input."""

# Cells below which an error counts squared: less than half a cell is within what a box tells.
BETA = 0.5


@dataclass(frozen=True)
class EndPointErrors:
    """How far the flow points beside the true place of tracked objects, in cells.

    Attributes:
        moved: true displacement of the centre of each object, which is the error of zero flow, [N].
        error: distance between that and the flow at the cell of the centre, [N].
    """

    moved: Tensor
    error: Tensor


def end_point_errors(flow: Tensor, tracks: Sequence[Tracks], stride: float) -> EndPointErrors:
    """Compare the flow with the tracks, at the cell under the centre of each box of the key frame.

    Args:
        flow: [T, 2, H, W], in cells.
        tracks: those of the key frame, then those of each of the T reference frames.
        stride: pixels per cell.

    Returns:
        Errors of all objects that stand in the key frame and a reference frame, frame by frame.
    """
    key, *refs = tracks
    height, width = flow.shape[-2:]
    moved, errors = [], []
    for one, ref in zip(flow.detach().float(), refs, strict=True):
        for track in (track for track in key if track in ref):
            centre, there = (
                (b[:2] + b[2:]).to(one) / (2 * stride) for b in (key[track], ref[track])
            )
            x, y = (int(v) for v in centre.floor())
            if 0 <= x < width and 0 <= y < height:
                moved.append((there - centre).norm())
                errors.append((one[:, y, x] - (there - centre)).norm())
    if not moved:
        return EndPointErrors(flow.new_zeros(0), flow.new_zeros(0))
    return EndPointErrors(torch.stack(moved), torch.stack(errors))


# Classes of speed in cells between two frames: [0, 0.5), [0.5, 1.5) and beyond.
SPEEDS = {"slow": (0.0, 0.5), "medium": (0.5, 1.5), "fast": (1.5, math.inf)}


def mean_errors(errors: Sequence[EndPointErrors]) -> dict[str, float]:
    """Mean end-point error in cells of all objects and of each class of speed that has some.

    Returns:
        `epe` and `epe_zero`, that of zero flow; likewise `epe_slow`, `epe_zero_slow` and so on.
    """
    if not errors:
        return {}
    moved, error = (torch.cat([getattr(e, name) for e in errors]) for name in ("moved", "error"))
    means = {}
    for suffix, (low, high) in {"": (0.0, math.inf), **SPEEDS}.items():
        chosen = (moved >= low) & (moved < high)
        if chosen.any():
            end = suffix and f"_{suffix}"
            means[f"epe{end}"] = float(error[chosen].mean())
            means[f"epe_zero{end}"] = float(moved[chosen].mean())
    return means


def track_flow(
    tracks: Sequence[Tracks], size: tuple[int, int], stride: float
) -> tuple[Tensor, Tensor]:
    """Say of each cell in a tracked box where the tracks say that it goes: box onto box.

    Where boxes overlap, the later of the key frame's wins.

    Args:
        tracks: those of the key frame, then those of each of T reference frames.
        size: height and width of the map in cells.
        stride: pixels per cell.

    Returns:
        Displacements [T, 2, H, W] in cells, and where they hold, bool [T, 1, H, W]: cells whose
        centre is in a box of the key frame whose track stands in the reference frame too, at least
        the one under its centre.
    """
    key, *refs = tracks
    height, width = size
    flow, known = torch.zeros(len(refs), 2, height, width), torch.zeros(len(refs), 1, height, width)
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    for t, ref in enumerate(refs):
        for track, box in key.items():
            if track not in ref:
                continue
            here, there = box.float().cpu() / stride, ref[track].float().cpu() / stride
            scale = (there[2:] - there[:2]) / (here[2:] - here[:2]).clamp(min=1e-3)
            centre = (here[:2] + here[2:]) / 2
            columns = ((x >= here[0]) & (x < here[2])) | (x.floor() == centre[0].floor())
            rows = ((y >= here[1]) & (y < here[3])) | (y.floor() == centre[1].floor())
            inside = rows[:, None] & columns
            flow[t, 0, inside] = (there[0] + (x - here[0]) * scale[0] - x).expand(size)[inside]
            flow[t, 1, inside] = (there[1] + (y - here[1]) * scale[1] - y)[:, None].expand(size)[
                inside
            ]
            known[t, 0, inside] = 1
    return flow, known.bool()


def build_track_loss(cfg) -> TrackLoss | None:
    """Build the loss of MODEL.IFF.TRACK_LOSS, or None where its weight is 0.

    Raises:
        ValueError: the samples would carry no tracks.
    """
    weight = cfg.MODEL.IFF.TRACK_LOSS.WEIGHT
    if weight and not cfg.INPUT.VIDEO.TRACKS:
        raise ValueError(
            "MODEL.IFF.TRACK_LOSS.WEIGHT is not 0, but INPUT.VIDEO.TRACKS is False: set it to "
            "True, so that the samples carry the tracks that the loss compares with"
        )
    return TrackLoss(weight) if weight else None


class TrackLoss(nn.Module):
    """Smooth L1 between the flow and the motion of the tracks, mean over the cells in their boxes.

    The residual of features (TRL) does not lead to the motion where features are flat, or spoilt:
    its minimum lies elsewhere. Boxes with track ids say where each object went.
    """

    def __init__(self, weight: float) -> None:
        """
        Args:
            weight: factor of the loss.
        """
        super().__init__()
        if weight < 0:
            raise ValueError(f"MODEL.IFF.TRACK_LOSS.WEIGHT must not be negative, got {weight}")
        self.weight = weight

    def forward(self, flow: Tensor, tracks: Sequence[Tracks], stride: float) -> Tensor:
        """Compute the weighted loss, a scalar; 0 where no track stands in both frames.

        Args:
            flow: [T, 2, H, W], in cells.
            tracks: those of the key frame, then those of each of the T reference frames.
            stride: pixels per cell.
        """
        height, width = flow.shape[-2:]
        target, known = (x.to(flow.device) for x in track_flow(tracks, (height, width), stride))
        flow = flow.float()
        errors = F.smooth_l1_loss(flow, target, reduction="none", beta=BETA).mean(1, keepdim=True)
        return self.weight * (errors * known).sum() / known.sum().clamp(min=1)
