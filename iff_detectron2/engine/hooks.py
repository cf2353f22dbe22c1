"""Training hooks."""

from __future__ import annotations

from detectron2.engine import HookBase
from detectron2.utils.events import get_event_storage
from torch import nn

from iff_detectron2.modeling import AlignmentLoss


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
