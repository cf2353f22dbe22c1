"""Self-supervised losses on the alignment of features: the TRL (Sec. 3.2)."""

from __future__ import annotations

from abc import ABC, abstractmethod

from detectron2.config import configurable
from detectron2.utils.registry import Registry
from torch import Tensor, nn
from torch.nn import functional as F

from iff_detectron2.layers import flow_warp
from iff_detectron2.layers.pixels import accumulation_type

ALIGNMENT_LOSS_REGISTRY = Registry("ALIGNMENT_LOSS")
ALIGNMENT_LOSS_REGISTRY.__doc__ = """
Registry of losses that compare a warped reference frame with the key frame.

The registered object is called with `obj(cfg)` and returns an `AlignmentLoss`.
"""


class AlignmentLoss(nn.Module, ABC):
    """Measures how well the reference frames, warped by their flow, agree with the key frame.

    Attributes:
        weight: factor of the loss (lambda of Eq. 3); a training hook may change it.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"MODEL.IFF.TRL.WEIGHT must not be negative, got {weight}")
        self.weight = weight

    @abstractmethod
    def forward(self, key: Tensor, refs: Tensor, flow: Tensor) -> Tensor:
        """Compute the weighted loss, a scalar.

        Args:
            key: features of the key frame, [1, C, H, W].
            refs: features of its reference frames, [T, C, H, W]; T = 0 gives 0.
            flow: displacement from each reference frame, [T, 2, H, W], in cells.
        """


def build_alignment_loss(cfg) -> AlignmentLoss | None:
    """Build the loss that MODEL.IFF.TRL.NAME names, or None where MODEL.IFF.TRL is disabled."""
    trl = cfg.MODEL.IFF.TRL
    return ALIGNMENT_LOSS_REGISTRY.get(trl.NAME)(cfg) if trl.ENABLED else None


@ALIGNMENT_LOSS_REGISTRY.register()
class TransformationResidualLoss(AlignmentLoss):
    """The transformation residual loss (Eq. 3): smooth L1 of warped reference frame and key frame.

    It is the mean over reference frames, locations and channels.
    """

    @configurable
    def __init__(self, *, weight: float, grad_to_features: bool = False) -> None:
        super().__init__(weight)
        self.grad_to_features = grad_to_features

    @classmethod
    def from_config(cls, cfg):
        trl = cfg.MODEL.IFF.TRL
        return {"weight": trl.WEIGHT, "grad_to_features": trl.GRAD_TO_FEATURES}

    def forward(self, key: Tensor, refs: Tensor, flow: Tensor) -> Tensor:
        if not self.grad_to_features:
            key, refs = key.detach(), refs.detach()
        # Half precision would lose small residuals; float64 stays what it is.
        dtype = accumulation_type(refs.dtype, flow.dtype)
        warped = flow_warp(refs, flow).to(dtype)
        if not len(refs):
            return self.weight * warped.sum()
        return self.weight * F.smooth_l1_loss(warped, key.to(dtype).expand_as(warped))
