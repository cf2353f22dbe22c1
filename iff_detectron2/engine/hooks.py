"""Training hooks."""

from __future__ import annotations

import logging

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils.events import get_event_storage
from torch import nn

from iff_detectron2.modeling import Aggregator, AlignmentLoss

from .alignment_quality import advice
from .measured_videos import measure_a_few


def _alignment_losses(model: nn.Module) -> list[AlignmentLoss]:
    return [module for module in model.modules() if isinstance(module, AlignmentLoss)]


class AlignmentLossHook(HookBase):
    """Schedules the weight of the alignment loss (TRL) and logs it as `trl_weight`.

    The loss itself is one of the model's losses, so that mixed precision, the check for NaN and
    the writers treat it as any other.
    """

    def __init__(self, warmup_iters: int = 0) -> None:
        """
        Args:
            warmup_iters: iterations in which the weight grows linearly from 0 to its value.
        """
        if warmup_iters < 0:
            raise ValueError(f"MODEL.IFF.TRL.WARMUP_ITERS must not be negative, got {warmup_iters}")
        self.warmup_iters = warmup_iters
        # Set when training starts; it may end before that, where another hook fails.
        self._losses: list[tuple[AlignmentLoss, float]] = []

    def before_train(self) -> None:
        self._losses = [(loss, loss.weight) for loss in _alignment_losses(self.trainer.model)]

    def before_step(self) -> None:
        if not self._losses:
            return
        share = min(1.0, self.trainer.iter / self.warmup_iters) if self.warmup_iters else 1.0
        for loss, weight in self._losses:
            loss.weight = share * weight
        get_event_storage().put_scalar("trl_weight", self._losses[0][0].weight)

    def after_train(self) -> None:
        for loss, weight in self._losses:
            loss.weight = weight


class AlignmentAdviceHook(HookBase):
    """Says at the end of a training in one sentence whether alignment helps on the test set.

    It logs `iff/residual_held_out`, and where the set has tracks `iff/epe_held_out` and
    `iff/epe_zero_held_out`, in cells.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        """
        Args:
            cfg: config of the training; the first of DATASETS.TEST is looked at.
            model: the detector, which may be a part of what is trained, or within DDP.
        """
        self.cfg = cfg
        self.model = getattr(model, "module", model)

    def after_train(self) -> None:
        model = self.model
        flows = [m for m in model.modules() if isinstance(m, Aggregator) and m.estimates_flow]
        done = self.trainer.iter + 1 >= self.trainer.max_iter
        if not (flows and done and self.cfg.DATASETS.TEST and self.cfg.TEST.VIDEO.NUM_REFS):
            return
        name, training = self.cfg.DATASETS.TEST[0], model.training
        with torch.no_grad():
            quality = measure_a_few(self.cfg, model.eval(), name)
        model.train(training)
        storage = get_event_storage()
        if quality.residual:
            storage.put_scalar("iff/residual_held_out", quality.residual_ratio)
        error = quality.mean_error()
        if error is not None:
            storage.put_scalar("iff/epe_held_out", error[0])
            storage.put_scalar("iff/epe_zero_held_out", error[1])
        logging.getLogger(__name__).info(f"{name}: {advice(quality)}")
