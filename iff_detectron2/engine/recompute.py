"""Gradient checkpointing: what the blocks of a backbone computed is computed again, not kept."""

from __future__ import annotations

from detectron2.layers import CNNBlockBase
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    apply_activation_checkpointing,
)
from torch.nn.modules.batchnorm import _BatchNorm


def recompute_blocks(backbone: nn.Module) -> None:
    """Keep of each trained block of a backbone its input alone, in place.

    The backward pass computes the rest once more, so that a step needs less memory and more time;
    gradients and the names of the weights stay.

    Raises:
        ValueError: if the backbone has no blocks of Detectron2's kind that are trained, or they
            have a BatchNorm, whose statistics would count each batch twice.
    """
    blocks = {
        block
        for block in backbone.modules()
        if isinstance(block, CNNBlockBase) and any(p.requires_grad for p in block.parameters())
    }
    if not blocks:
        raise ValueError(
            f"MODEL.BACKBONE.RECOMPUTE needs blocks of Detectron2's kind that are trained, which "
            f"{type(backbone).__name__} does not have; set it to False"
        )
    if any(isinstance(part, _BatchNorm) for block in blocks for part in block.modules()):
        raise ValueError(
            "MODEL.BACKBONE.RECOMPUTE would count each batch twice in the statistics of BatchNorm; "
            "set MODEL.RESNETS.NORM to FrozenBN or GN, or RECOMPUTE to False"
        )
    apply_activation_checkpointing(backbone, check_fn=lambda module: module in blocks)
