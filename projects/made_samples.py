"""Samples that no data set is needed for, with ground truth of every kind."""

from __future__ import annotations

import torch
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints, PolygonMasks
from torch import Tensor


def textured_clip(length: int, size: tuple[int, int]) -> list[Tensor]:
    """Return frames of coarse random texture, uint8 [3, H, W]."""
    generator = torch.Generator().manual_seed(1)
    height, width = size
    coarse = torch.randint(
        0, 256, (length, 3, -(-height // 8), -(-width // 8)), generator=generator
    )
    fine = coarse.repeat_interleave(8, 2).repeat_interleave(8, 3)
    return list(fine[..., :height, :width].to(torch.uint8))


def window_sample(clip: list[Tensor], t: int, offsets: tuple[int, ...], new_only: bool) -> dict:
    """Return a sample as the test mapper makes it: the whole window, or what a stream lacks."""

    def window(key: int) -> list[int]:
        return [min(max(key + offset, 0), len(clip) - 1) for offset in offsets]

    frames = window(t)
    if new_only:
        seen = {t - 1, *window(t - 1)} if t else set()
        frames = sorted(set(frames) - seen - {t})
    return {
        "image": clip[t],
        "ref_images": [clip[f] for f in frames],
        "ref_offsets": [f - t for f in frames],
        "video_id": "v",
        "frame_index": t,
        "video_length": len(clip),
        "height": clip[t].shape[1],
        "width": clip[t].shape[2],
    }


def with_truth(sample: dict, num_classes: int, mask_format: str = "polygon") -> dict:
    """Add ground truth of every kind that Detectron2's detectors learn from.

    Args:
        sample: as `window_sample` makes it.
        num_classes: classes that there are.
        mask_format: of its masks, as INPUT.MASK_FORMAT.
    """
    height, width = sample["image"].shape[-2:]
    share = torch.tensor([[0.05, 0.1, 0.45, 0.8], [0.4, 0.25, 0.95, 0.9]])
    boxes = share * torch.tensor([width, height, width, height])
    truth = Instances((height, width), gt_boxes=Boxes(boxes))
    truth.gt_classes = torch.tensor([0, num_classes - 1])
    outlines = [[[x1, y1, x2, y1, x2, y2, x1, y2]] for x1, y1, x2, y2 in boxes.tolist()]
    truth.gt_masks = PolygonMasks(outlines)
    if mask_format == "bitmask":
        truth.gt_masks = BitMasks.from_polygon_masks(truth.gt_masks, height, width)
    along = torch.linspace(0.1, 0.9, 17)[None, :, None]
    points = boxes[:, None, :2] + along * (boxes[:, None, 2:] - boxes[:, None, :2])
    truth.gt_keypoints = Keypoints(torch.cat((points, torch.full((2, 17, 1), 2.0)), dim=2))
    segments = torch.zeros(height, width, dtype=torch.long)
    segments[height // 8 : height // 2, width // 8 : width // 2] = 1
    return {**sample, "instances": truth, "sem_seg": segments}


def with_proposals(sample: dict) -> dict:
    """Add what detectors without a region proposal network are given."""
    height, width = sample["image"].shape[-2:]
    generator = torch.Generator().manual_seed(3)
    low = torch.rand(20, 2, generator=generator) * torch.tensor([width, height]) * 0.6
    high = low + torch.tensor([width, height]) * (
        0.1 + 0.3 * torch.rand(20, 2, generator=generator)
    )
    proposals = Instances((height, width), proposal_boxes=Boxes(torch.cat((low, high), dim=1)))
    proposals.objectness_logits = torch.rand(20, generator=generator)
    return {**sample, "proposals": proposals}
