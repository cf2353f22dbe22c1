"""Operators on tensors: correlation, warping, aggregation, pooling, deformable convolution."""

from .aggregation import warp_and_aggregate
from .correlation import local_correlation
from .deform_conv import DeformConv2d
from .ps_roi_pooling import ps_roi_pool
from .warp import flow_warp, resize_flow

__all__ = [
    "DeformConv2d",
    "flow_warp",
    "local_correlation",
    "ps_roi_pool",
    "resize_flow",
    "warp_and_aggregate",
]
