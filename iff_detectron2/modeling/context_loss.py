"""A loss on the alignment that looks around each cell, which the paper's conclusion leaves open."""

from __future__ import annotations

import torch
from detectron2.config import configurable
from torch import Tensor
from torch.nn import functional as F

from iff_detectron2.layers import flow_warp
from iff_detectron2.layers.pixels import accumulation_type

from .alignment_loss import ALIGNMENT_LOSS_REGISTRY, AlignmentLoss

# Squared difference of two relations that costs half of what a complete mismatch does.
ROBUST = 0.1


def patch_relations(x: Tensor, scale: Tensor) -> Tensor:
    """Says of each cell how it stands to the eight around it: a soft census transform.

    Args:
        x: features, [N, C, H, W]; beyond its edge the map goes on as it ends there.
        scale: difference that counts as large, [1, C, 1, 1], positive.

    Returns:
        [N, 8, C, H, W], each in (-1, 1): near the sign of differences that are large.
    """
    height, width = x.shape[-2:]
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    around = [
        padded[..., dy : dy + height, dx : dx + width] - x
        for dy in range(3)
        for dx in range(3)
        if (dy, dx) != (1, 1)
    ]
    return torch.stack([d / (scale**2 + d**2).sqrt() for d in around], dim=1)


def edge_aware_roughness(flow: Tensor, guide: Tensor) -> Tensor:
    """Mean change of the flow from cell to cell, forgiven where the guide changes too.

    Args:
        flow: [T, 2, H, W], T at least 1.
        guide: features of the key frame, [1, C, H, W].
    """
    total = flow.new_zeros(())
    for dim in (-1, -2):
        bend = flow.diff(dim=dim).abs().mean(dim=1, keepdim=True)
        edge = guide.diff(dim=dim).abs().mean(dim=1, keepdim=True)
        if bend.numel():
            # Measured in the edges of this very map: features have no unit.
            total = total + (bend * (-edge / edge.mean().clamp(min=1e-12)).exp()).mean()
    return total


@ALIGNMENT_LOSS_REGISTRY.register()
class ContextResidualLoss(AlignmentLoss):
    """TRL with context: residuals of cells, of the patches around them, and roughness of the flow.

    A patch is compared by how its cells stand to each other (census), at a cost that is bounded:
    where an object's border covers what the key frame shows, no flow could make them agree, and
    such cells should not pull. There the flow of the cells around decides, up to the next edge of
    the features.
    """

    @configurable
    def __init__(
        self,
        *,
        weight: float,
        census: float = 0.5,
        smoothness: float = 0.3,
        grad_to_features: bool = False,
    ) -> None:
        """
        Args:
            weight: factor of the whole.
            census: share of the patches in the residual, 0 (cells alone, Eq. 3) to 1.
            smoothness: factor of the roughness of the flow, in cells.
            grad_to_features: let gradient pass the two feature maps that are compared.
        """
        super().__init__(weight)
        if not 0 <= census <= 1 or smoothness < 0:
            raise ValueError(
                "MODEL.IFF.TRL.CENSUS must be in [0, 1] and MODEL.IFF.TRL.SMOOTHNESS not negative, "
                f"got {census} and {smoothness}"
            )
        self.census = census
        self.smoothness = smoothness
        self.grad_to_features = grad_to_features

    @classmethod
    def from_config(cls, cfg):
        trl = cfg.MODEL.IFF.TRL
        return {
            "weight": trl.WEIGHT,
            "census": trl.CENSUS,
            "smoothness": trl.SMOOTHNESS,
            "grad_to_features": trl.GRAD_TO_FEATURES,
        }

    def forward(self, key: Tensor, refs: Tensor, flow: Tensor) -> Tensor:
        if not self.grad_to_features:
            key, refs = key.detach(), refs.detach()
        dtype = accumulation_type(refs.dtype, flow.dtype)
        warped, key = flow_warp(refs, flow).to(dtype), key.to(dtype)
        if not len(refs):
            return self.weight * warped.sum()
        cells = F.smooth_l1_loss(warped, key.expand_as(warped))
        steps = F.pad(key.detach(), (0, 1, 0, 0), mode="replicate").diff(dim=-1)
        scale = steps.abs().mean(dim=(0, 2, 3), keepdim=True).clamp(min=1e-6)
        squared = (patch_relations(warped, scale) - patch_relations(key, scale)) ** 2
        patches = (squared / (ROBUST + squared)).mean()
        loss = (1 - self.census) * cells + self.census * patches
        if self.smoothness:
            loss = loss + self.smoothness * edge_aware_roughness(flow.to(dtype), key.detach())
        return self.weight * loss
