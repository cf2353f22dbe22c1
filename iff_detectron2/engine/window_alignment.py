"""Looks into a video detector: what the feature flow does to the neighbours of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.data import detection_utils
from detectron2.structures import Instances
from torch import Tensor

from iff_detectron2.data.network_input import NetworkInput
from iff_detectron2.layers import flow_warp, warp_and_aggregate
from iff_detectron2.modeling.codes import Codes
from iff_detectron2.structures import Detections, TemporalWindow
from iff_detectron2.visualization.panel import AlignmentRow


@dataclass(frozen=True)
class WindowAlignment:
    """How a detector aligned and weighed the neighbours of one key frame, on one feature map.

    Attributes:
        key: codes of the key frame, [1, ., H, W].
        refs: codes of the T neighbours, [T, ., H, W].
        flow: [T, 2, H, W], in cells.
        weights: share of each neighbour at each cell, [T, 1, H, W].
        instances: detections of the key frame in pixels of the network's input, on the CPU.
        stride: pixels of the network's input per cell.
    """

    key: Codes
    refs: Codes
    flow: Tensor
    weights: Tensor
    instances: Instances
    stride: int


@dataclass(frozen=True)
class WarpError:
    """Distance of a neighbour to the key frame, as it is and moved by the flow.

    Means over the cells whose flow stays inside the frame.

    Attributes:
        offset: frames from the key frame.
        feature_before: mean absolute difference of the features over the mean of the key frame's.
        feature_after: the same of the warped features.
        pixel_before: mean absolute difference of the images in grey levels (0 to 255), each cell
            the mean of its pixels.
        pixel_after: the same of the warped image.
        flow: mean length of the flow in pixels of the network's input.
        weight: mean share of the neighbour in the sum.
    """

    offset: int
    feature_before: float
    feature_after: float
    pixel_before: float
    pixel_after: float
    flow: float
    weight: float


def window_sample(cfg: CfgNode, frames: Sequence[np.ndarray], key: int) -> dict[str, Any]:
    """Return a sample with the whole window of a frame, as the test mapper makes it.

    Args:
        cfg: config of the detector; the window is that of TEST.VIDEO.
        frames: the video, or as much of it as the window reaches: uint8 BGR [H, W, 3].
        key: position of the key frame in `frames`; the window is clamped at their ends.
    """
    window = TemporalWindow.from_config(cfg)
    to_input = NetworkInput(cfg)
    refs = window.frames(key, len(frames))
    images = {t: to_input(frames[t]) for t in {key, *refs}}
    return {
        "image": images[key],
        "ref_images": [images[t] for t in refs],
        "ref_offsets": [t - key for t in refs],
    }


def _to_bgr(image: torch.Tensor, image_format: str) -> np.ndarray:
    rgb = detection_utils.convert_image_to_rgb(image.permute(1, 2, 0), image_format)
    return np.ascontiguousarray(rgb[..., ::-1].round().clip(0, 255).astype(np.uint8))


@torch.no_grad()
def align_window(model: Any, sample: dict[str, Any]) -> WindowAlignment:
    """Detect in one key frame and keep what was done to its neighbours.

    Args:
        model: a video detector in evaluation mode; the video it is at is forgotten.
        sample: a mapped sample with its whole window (`window_sample`, or the mapper with
            TEST.VIDEO.STREAMING False).

    Raises:
        ValueError: if the model does not predict flow.
    """
    if not hasattr(model, "temporal"):
        raise ValueError("the model is no video detector: it has no alignment to show")
    height, width = sample["image"].shape[-2:]
    model.reset()
    (output,) = model([{**sample, "height": height, "width": width}])
    fusion = model.temporal.last[0]
    flows = {level: a.flow for level, a in fusion.levels.items() if a.flow is not None}
    if not flows:
        raise ValueError("the model's aggregator does not align: it has no flow to show")
    level, flow = next(iter(flows.items()))
    request = fusion.request
    key = fusion.frames.gather([request.key], level)[level]
    refs = fusion.frames.gather(request.refs, level)[level]
    aggregator = model.temporal.aggregators[level]
    offsets = [frame - request.key for frame in request.refs]
    _, weights = aggregator.fused_frames(
        key, aggregator.align(key, refs, offsets=offsets, flow=flow)
    )
    return WindowAlignment(
        key,
        refs,
        flow,
        # The key frame, where it is fused, stands first.
        weights[len(weights) - len(flow) :],
        output["instances"].to("cpu"),
        model.temporal.strides[level],
    )


def alignment_rows(
    model: Any, sample: dict[str, Any], offsets: Sequence[int], *, name: str = ""
) -> list[AlignmentRow]:
    """Detect in one key frame and shows how each of some neighbours was aligned with it.

    Args:
        model: as for `align_window`.
        sample: as for `align_window`.
        offsets: neighbours to show, in frames; those outside of the video are left out.
        name: written on the key frame.

    Returns:
        A row for each neighbour, in the pixels of the network's input.

    Raises:
        ValueError: if the model does not predict flow.
    """
    return rows_of(align_window(model, sample), model, sample, offsets, name=name)


def rows_of(
    alignment: WindowAlignment,
    model: Any,
    sample: dict[str, Any],
    offsets: Sequence[int],
    *,
    name: str = "",
) -> list[AlignmentRow]:
    """Return the rows of `alignment_rows` from an alignment that was made already.

    Args:
        alignment: what `align_window` returned for the sample.
        model: as for `align_window`.
        sample: as for `align_window`.
        offsets: reference frames to show, in frames from the key frame.
        name: written on the key frame.
    """
    image_format = getattr(model, "input_format", None) or "BGR"
    flow = alignment.flow
    detections = Detections.from_instances([(0, alignment.instances)])
    map_extent = flow.shape[2] * alignment.stride, flow.shape[3] * alignment.stride
    rows = []
    for offset in offsets:
        if offset not in sample["ref_offsets"]:
            continue
        index = sample["ref_offsets"].index(offset)
        rows.append(
            AlignmentRow(
                key_frame=_to_bgr(sample["image"], image_format),
                ref_frame=_to_bgr(sample["ref_images"][index], image_format),
                offset=offset,
                flow=flow[index].float().cpu().numpy(),
                feature=alignment.refs["feature"][index].float().cpu().numpy(),
                weight=alignment.weights[index, 0].float().cpu().numpy(),
                detections=detections,
                name=name,
                map_extent=map_extent,
            )
        )
    return rows


@torch.no_grad()
def warp_errors(alignment: WindowAlignment, sample: dict[str, Any]) -> list[WarpError]:
    """Measures, for each neighbour, whether alignment brings it nearer to the key frame.

    Args:
        alignment: of `sample`.
        sample: a mapped sample with its whole window.
    """
    flow = alignment.flow.float()
    size = sample["image"].shape[-2:]
    key_image = _cells(sample["image"], flow, alignment.stride)
    key = alignment.key["feature"].float()
    inside = _inside(flow, size, alignment.stride)
    errors = []
    for index, offset in enumerate(sample["ref_offsets"]):
        one, where = flow[index : index + 1], inside[index]
        feature = alignment.refs["feature"][index : index + 1].float()
        image = _cells(sample["ref_images"][index], flow, alignment.stride)
        scale = key[0, :, where].abs().mean().clamp(min=1e-12)

        def distance(a: Tensor, b: Tensor, where: Tensor = where) -> Tensor:
            return (a - b)[0, :, where].abs().mean()

        warped, warped_image = flow_warp(feature, one), flow_warp(image, one)
        errors.append(
            WarpError(
                offset=offset,
                feature_before=float(distance(feature, key) / scale),
                feature_after=float(distance(warped, key) / scale),
                pixel_before=float(distance(image, key_image)),
                pixel_after=float(distance(warped_image, key_image)),
                flow=float(one.norm(dim=1)[0, where].mean() * alignment.stride),
                weight=float(alignment.weights[index, 0][where].mean()),
            )
        )
    return errors


def _cells(image: Tensor, flow: Tensor, stride: int) -> Tensor:
    """Return the mean colour of the image [3, h, w] under each cell of the flow, [1, 3, H, W]."""
    height, width = (side * stride for side in flow.shape[-2:])
    x = image[None].to(flow)
    x = F.pad(x, (0, width - x.shape[-1], 0, height - x.shape[-2]))
    return F.avg_pool2d(x, stride)


def _inside(flow: Tensor, size: Sequence[int], stride: int) -> Tensor:
    """Cells that lie in the image as a whole, and so does where they point, [T, H, W]."""
    rows, columns = (side // stride for side in size)
    y = torch.arange(flow.shape[2], device=flow.device)[:, None]
    x = torch.arange(flow.shape[3], device=flow.device)
    inside = torch.ones_like(flow[:, 0], dtype=torch.bool)
    for column, row in ((x, y), (x + flow[:, 0], y + flow[:, 1])):
        inside = inside & (column >= 0) & (column <= columns - 1) & (row >= 0) & (row <= rows - 1)
    return inside


@torch.no_grad()
def zero_flow_error(alignment: WindowAlignment) -> tuple[float, float]:
    """Check on the video's own features that zero flow is the identity.

    Returns:
        The largest difference between the neighbours and themselves warped by zero flow, and,
        relative to the largest feature, between the key frame and the fusion of as many copies of
        it as there are neighbours. The first must be 0, the second no more than rounding.
    """
    features = alignment.refs["feature"]
    none = torch.zeros_like(alignment.flow)
    warp = (flow_warp(features, none) - features).abs().max()
    key = alignment.key["feature"]
    embedding = alignment.key.get("embedding", key)
    keys, embeddings = (x.expand(len(features), -1, -1, -1) for x in (key, embedding))
    fused = warp_and_aggregate(keys, embeddings, none, embedding, key)
    return float(warp), float((fused - key).abs().max() / key.abs().max().clamp(min=1e-12))
