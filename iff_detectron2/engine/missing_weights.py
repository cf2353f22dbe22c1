"""What a checkpoint did not give a model: an error where it matters, with the likely reason."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from detectron2.config import CfgNode
from torch import nn

from iff_detectron2.modeling import FlowEstimator, OffsetAwareAggregator

Needs = Literal["all", "frozen", "nothing"]
"""Weights that a checkpoint must have: all (to test), those that training does not change, none."""

Shape = tuple[int, ...]

_SHOWN = 4
# Layers whose width is the number of classes, by Detectron2's names.
_CLASS_LAYERS = ("cls_score", "bbox_pred", "class_logits", "mask_head.predictor")
# Of these parts a checkpoint of the same net has nothing that the model has not; heads for tasks
# that a config leaves out, as masks, may stay unused.
_PARTS = ("backbone.", "temporal.")


def needed_weights(cfg: CfgNode, *, training: bool) -> Needs:
    """Return what a checkpoint must have for a model that is to be trained or tested."""
    if cfg.MODEL.ALLOW_MISSING_WEIGHTS:
        return "nothing"
    return "frozen" if training else "all"


@dataclass(frozen=True)
class Mismatch:
    """What a checkpoint and a model do not have in common.

    Attributes:
        source: name of the checkpoint; empty without one.
        total: number of the model's weights.
        given: names of the checkpoint.
        missing: weights of the model that the checkpoint does not have, or not in their shape.
        misfits: those that it has, with their shapes there and in the model.
        unused: weights of the backbone or the temporal part that the model does not have.
    """

    source: str
    total: int
    given: Collection[str]
    missing: Collection[str]
    misfits: Mapping[str, tuple[Shape, Shape]]
    unused: Collection[str]

    @classmethod
    def of(
        cls,
        model: nn.Module,
        source: str,
        given: Collection[str],
        missing: Collection[str],
        unexpected: Collection[str],
        misfits: Mapping[str, tuple[Shape, Shape]],
    ) -> Mismatch:
        """Keep of what a checkpointer found what would change results.

        Args:
            model: that was loaded into.
            source: name of the checkpoint.
            given: names in the checkpoint.
            missing: names that only the model has.
            unexpected: names that only the checkpoint has.
            misfits: names with both shapes, the checkpoint's first.
        """
        parts = tuple(part for part in _PARTS if hasattr(model, part[:-1]))
        return cls(
            source,
            sum(map(_matters, model.state_dict())),
            given,
            [name for name in missing if _matters(name)],
            misfits,
            [name for name in unexpected if _matters(name) and name.startswith(parts)],
        )

    def check(self, model: nn.Module, needs: Needs) -> None:
        """Raise where the checkpoint lacks what is needed, else say what starts anew.

        Raises:
            ValueError: names the weights and the likely reason.
        """
        if needs == "all" and (self.missing or self.unused):
            raise ValueError(
                f"{self._what(self.missing)}: {self._reason(model)}; name the right file in "
                "MODEL.WEIGHTS, or mend the config (MODEL.ALLOW_MISSING_WEIGHTS True runs with "
                "random weights)"
            )
        if needs == "frozen":
            for key, names in _frozen_by_config(model).items():
                lacking = [name for name in self.missing if name in names]
                if lacking:
                    raise ValueError(
                        f"{key} keeps weights as they are, but {self._what(lacking)}; put them "
                        "into MODEL.WEIGHTS or let them be trained (MODEL.ALLOW_MISSING_WEIGHTS "
                        "True leaves them random)"
                    )
            if self.source and len(self.missing) >= self.total:
                raise ValueError(f"{self._what(self.missing)}: {self._reason(model)}")
        if self.missing or self.unused:
            counts = Counter(".".join(name.split(".")[:2]) for name in self.missing)
            logging.getLogger(__name__).log(
                logging.WARNING if needs == "nothing" else logging.INFO,
                "%d of %d weights start anew (%s): %s",
                len(self.missing),
                self.total,
                ", ".join(f"{count} of {part}" for part, count in counts.items()),
                f"{self.source}: {self._reason(model)}" if self.source else "no checkpoint",
            )

    def _what(self, missing: Collection[str]) -> str:
        """Name the weights, the first of them one by one."""
        if not self.source:
            return f"MODEL.WEIGHTS is empty, and {_first(missing)} would stay random"
        if not missing:
            return (
                f"{self.source} has weights that the model has no place for, {_first(self.unused)}"
            )
        shown = [
            f"{name} ({list(self.misfits[name][0])} there, {list(self.misfits[name][1])} here)"
            if name in self.misfits
            else name
            for name in sorted(missing, key=lambda name: name not in self.misfits)
        ]
        return f"{self.source} lacks {len(missing)} of {self.total} weights, {_first(shown)}"

    def _reason(self, model: nn.Module) -> str:
        found = self.total - len(self.missing)
        if not self.source:
            return "there is no checkpoint"
        if not found and not self.misfits:
            return f"is it of another model? Its first names are {sorted(self.given)[:3]}"
        for name, (there, here) in self.misfits.items():
            owner = model.get_submodule(name.rpartition(".")[0])
            if isinstance(owner, OffsetAwareAggregator):
                return (
                    f"it is of a net with INPUT.VIDEO.MAX_OFFSET {there[0] // 2}, "
                    f"the config says {here[0] // 2}"
                )
        if self.misfits and all(
            there[1:] == here[1:] and any(layer in name for layer in _CLASS_LAYERS)
            for name, (there, here) in self.misfits.items()
        ):
            return "it is of a detector with another number of classes"
        if not self.unused and not self.misfits:
            if all(name.startswith("temporal.") for name in self.missing):
                return "it is of a plain detector, and the temporal part is still to be trained"
            loaded = model.state_dict().keys() - set(self.missing)
            if all(name.startswith("backbone.") or not _matters(name) for name in loaded):
                return "it has a backbone alone, and the detector is still to be trained"
        return "it is of another net than the config describes"


def _matters(name: str) -> bool:
    """Whether results depend on a weight; a count of batches and the pixels' mean do not."""
    return not name.endswith(("num_batches_tracked", "pixel_mean", "pixel_std"))


def _first(names: Collection[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _frozen_by_config(model: nn.Module) -> dict[str, set[str]]:
    """Parameters that a key of the config keeps from being trained, by the name of the key."""
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    detector = {n for n, _ in model.named_parameters() if not n.startswith("temporal.")}
    flow = {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, FlowEstimator)
        for name, _ in module.named_parameters()
    }
    whole = "temporal" in dict(model.named_children()) and detector <= frozen
    key = "MODEL.IFF.FREEZE_DETECTOR" if whole else "MODEL.BACKBONE.FREEZE_AT"
    part = detector if whole else {n for n in frozen if n.startswith("backbone.")}
    # A flow estimator is frozen as a whole; single constants are its own affair.
    return {"MODEL.IFF.FLOW.FREEZE": flow if flow <= frozen else set(), key: part}
