"""Looks into a video detector: what the feature flow does to the neighbours of a frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from iff_detectron2.utils.panel import AlignmentRow


def _to_bgr(image: torch.Tensor, image_format: str) -> np.ndarray:
    array = image.permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(array[..., ::-1] if image_format == "RGB" else array)


@torch.no_grad()
def alignment_rows(
    model: Any, sample: dict[str, Any], offsets: Sequence[int], *, name: str = ""
) -> list[AlignmentRow]:
    """Detects in one key frame and shows how each of some neighbours was aligned with it.

    Args:
        model: a video detector in evaluation mode; the video it is at is forgotten.
        sample: a mapped sample with its whole window (TEST.VIDEO.STREAMING False).
        offsets: neighbours to show, in frames; those outside of the video are left out.
        name: written on the key frame.

    Returns:
        A row for each neighbour, in the pixels of the network's input.

    Raises:
        ValueError: if the model's aggregator does not predict flow.
    """
    frames = dict(zip(sample["ref_offsets"], sample["ref_images"], strict=True))
    height, width = sample["image"].shape[-2:]
    model.reset()
    (output,) = model([{**sample, "height": height, "width": width}])
    instances = output["instances"].to("cpu")
    fusion = model.temporal.last[0]
    flows = {level: a.flow for level, a in fusion.levels.items() if a.flow is not None}
    if not flows:
        raise ValueError("the model's aggregator does not align: it has no flow to show")
    level, flow = next(iter(flows.items()))
    request = fusion.request
    key = request.memory.gather([request.key])[level]
    refs = request.memory.gather(request.refs)[level]
    aggregator = model.temporal.aggregators[level]
    offsets_of_all = [frame - request.key for frame in request.refs]
    _, weights = aggregator.fused_frames(
        key, aggregator.align(key, refs, offsets=offsets_of_all, flow=flow)
    )
    # The key frame, where it is fused, stands first.
    weights = weights[len(weights) - len(flow) :]
    stride = model.backbone.output_shape()[level].stride
    map_extent = tuple(side * stride for side in flow.shape[-2:])
    image_format = getattr(model, "input_format", None) or "BGR"
    rows = []
    for offset in offsets:
        if offset not in frames:
            continue
        index = sample["ref_offsets"].index(offset)
        rows.append(
            AlignmentRow(
                key_frame=_to_bgr(sample["image"], image_format),
                ref_frame=_to_bgr(frames[offset], image_format),
                offset=offset,
                flow=flow[index].float().cpu().numpy(),
                feature=refs["feature"][index].float().cpu().numpy(),
                weight=weights[index, 0].float().cpu().numpy(),
                boxes=instances.pred_boxes.tensor.numpy(),
                scores=instances.scores.numpy(),
                labels=instances.pred_classes.numpy(),
                name=name,
                map_extent=map_extent,
            )
        )
    return rows
