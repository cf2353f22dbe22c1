"""Detectron2's optimizer, with what video detectors and projects add to it."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.solver import build_optimizer as build_plain_optimizer
from torch import nn
from torch.optim import Optimizer

from iff_detectron2.modeling import FlowEstimator

_SCALED = "flow_lr_factor"


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """Build what SOLVER describes.

    SOLVER.CLIP_GRADIENTS.CLIP_TYPE may be `full_model` too, which Detectron2 does not know and
    MaskFormer and its kin use: the norm of all gradients together is clipped.
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not (clip.ENABLED and clip.CLIP_TYPE == "full_model"):
        return build_plain_optimizer(cfg, model)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.CLIP_GRADIENTS.ENABLED = False
    optimizer = build_plain_optimizer(cfg, model)
    clip_whole_gradient(optimizer, clip.CLIP_VALUE, clip.NORM_TYPE)
    return optimizer


def clip_whole_gradient(optimizer: Optimizer, largest: float, norm_type: float = 2.0) -> None:
    """Let an optimizer clip the norm of all gradients together before each step.

    Args:
        optimizer: changed in place.
        largest: norm above which gradients are scaled down.
        norm_type: p of the norm.
    """

    def clip(optimizer: Optimizer, *_: object) -> None:
        everything = [p for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(everything, largest, norm_type=norm_type)

    # With mixed precision the scaler has taken its scale out of the gradients by then.
    optimizer.register_step_pre_hook(clip)


def flow_parameter_ids(model: nn.Module) -> set[int]:
    """Return the ids of the parameters of a model's flow estimators."""
    estimators = [m for m in model.modules() if isinstance(m, FlowEstimator)]
    return {id(p) for estimator in estimators for p in estimator.parameters()}


def scale_flow_lr(optimizer: Optimizer, model: nn.Module, factor: float) -> None:
    """Multiply the learning rate of the flow estimators (MODEL.IFF.FLOW.LR_FACTOR), in place.

    It works on whatever optimizer a project has built, and a second time does nothing.

    Args:
        optimizer: changed in place.
        model: whose flow estimators are meant.
        factor: over the rate that they have.
    """
    flow = flow_parameter_ids(model)
    if factor == 1.0 or not flow:
        return
    for group in list(optimizer.param_groups):
        chosen = [p for p in group["params"] if id(p) in flow]
        if chosen and _SCALED not in group:
            group["params"] = [p for p in group["params"] if id(p) not in flow]
            scaled = {**group, "params": chosen, "lr": group["lr"] * factor, _SCALED: factor}
            optimizer.add_param_group(scaled)
