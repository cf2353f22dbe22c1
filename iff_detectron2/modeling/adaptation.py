"""Losses that teach temporal aggregation without labels: a frozen detector is its own teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from detectron2.config import configurable
from detectron2.utils.registry import Registry
from torch import Tensor, nn

from .codes import BatchCodes
from .seam import VideoMixin
from .video_pass import FusionRequest

ADAPTATION_LOSS_REGISTRY = Registry("ADAPTATION_LOSS")
ADAPTATION_LOSS_REGISTRY.__doc__ = """
Registry of losses on the feature maps of a key frame that was spoilt on purpose.

The registered object is called with `obj(cfg)` and returns an `AdaptationLoss`.
"""

AdaptedMaps = Mapping[str, "AdaptedMap"]


@dataclass(frozen=True)
class AdaptedMap:
    """One feature map of one key frame, seen in four ways, [1, C, H, W] each.

    Attributes:
        teacher: of the clean key frame, by the frozen backbone.
        spoilt: of the spoilt key frame, by the frozen backbone.
        restored: aggregated from the spoilt key frame and clean reference frames.
        kept: aggregated from the clean key frame and the same reference frames.
        flow: displacement from the spoilt key frame to each reference frame, [T, 2, H, W], in
            cells; None without alignment.
    """

    teacher: Tensor
    spoilt: Tensor
    restored: Tensor
    kept: Tensor
    flow: Tensor | None = None

    def error(self, feature: Tensor) -> Tensor:
        """Return the mean square error of a map of this key frame, a scalar."""
        return (feature.float() - self.teacher.float()).square().mean()

    def energy(self) -> Tensor:
        """Return the mean square of the teacher's map, a scalar."""
        return self.teacher.float().square().mean()


def relative_error(batch: Sequence[AdaptedMaps], which: Callable[[AdaptedMap], Tensor]) -> Tensor:
    """Compute the square error of maps over the energy of the teacher's, a scalar.

    On each level the errors of all key frames over the energy of all, mean over the levels. In
    units of the harm that was done, key frames that were hardly spoilt would lead everything.

    Args:
        batch: the maps of each key frame, by level; the levels are the same.
        which: picks the map to look at.
    """
    shares = []
    for level in batch[0]:
        maps = [of_frame[level] for of_frame in batch]
        errors = torch.stack([m.error(which(m)) for m in maps]).sum()
        energy = torch.stack([m.energy() for m in maps]).sum()
        shares.append(errors / energy.clamp(min=1e-8))  # maps of zeros have no unit
    return torch.stack(shares).mean()


class AdaptationLoss(nn.Module, ABC):
    """Compares aggregated maps with those of the teacher.

    Attributes:
        weight: factor of the loss.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"a weight of MODEL.IFF.ADAPT must not be negative, got {weight}")
        self.weight = weight

    @abstractmethod
    def forward(self, batch: Sequence[AdaptedMaps]) -> Tensor:
        """Compute the weighted loss of a batch, a scalar.

        Args:
            batch: of each key frame its aggregated maps, by their names.
        """


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


@ADAPTATION_LOSS_REGISTRY.register()
class RestorationLoss(AdaptationLoss):
    """What is left of the harm after aggregation: |restored - teacher|^2 / |teacher|^2."""

    @configurable
    def __init__(self, *, weight: float) -> None:
        super().__init__(weight)

    @classmethod
    def from_config(cls, cfg):
        return {"weight": cfg.MODEL.IFF.ADAPT.RESTORATION_WEIGHT}

    def forward(self, batch: Sequence[AdaptedMaps]) -> Tensor:
        return self.weight * relative_error(batch, lambda m: m.restored)


@ADAPTATION_LOSS_REGISTRY.register()
class HarmlessnessLoss(AdaptationLoss):
    """What aggregation does to a clean key frame: |kept - teacher|^2 / |teacher|^2."""

    @configurable
    def __init__(self, *, weight: float) -> None:
        super().__init__(weight)

    @classmethod
    def from_config(cls, cfg):
        return {"weight": cfg.MODEL.IFF.ADAPT.HARMLESSNESS_WEIGHT}

    def forward(self, batch: Sequence[AdaptedMaps]) -> Tensor:
        return self.weight * relative_error(batch, lambda m: m.kept)


def build_adaptation_losses(cfg) -> nn.ModuleDict:
    """Build the losses that MODEL.IFF.ADAPT.LOSSES names, by the names they are logged under.

    Raises:
        ValueError: if none is named.
    """
    names = cfg.MODEL.IFF.ADAPT.LOSSES
    if not names:
        raise ValueError("MODEL.IFF.ADAPT.LOSSES is empty; name one of ADAPTATION_LOSS_REGISTRY")
    return nn.ModuleDict(
        {
            f"loss_{name.removesuffix('Loss').lower()}": ADAPTATION_LOSS_REGISTRY.get(name)(cfg)
            for name in names
        }
    )


class Adaptation(nn.Module):
    """Trains the temporal part of a frozen detector on video without labels.

    The backbone sees a key frame clean and spoilt, and its reference frames. From the reference
    frames and either key frame the temporal part aggregates; what it makes of both must be the map
    of the clean key frame. Losses of the alignment (TRL) come from the pass with the clean one. No
    head runs, and no gradient passes the backbone, so that a step is cheap.
    """

    def __init__(self, detector: VideoMixin, losses: nn.ModuleDict) -> None:
        """
        Args:
            detector: a video detector; everything but its temporal part is frozen.
            losses: of `AdaptationLoss`, by name.
        """
        super().__init__()
        self.detector = detector
        for name, parameter in detector.named_parameters():
            if not name.startswith("temporal."):
                parameter.requires_grad_(False)
        self.losses = losses
        self.train()

    def train(self, mode: bool = True) -> Adaptation:
        """Put the temporal part into training mode; the detector stays the teacher that it is."""
        super().train(mode)
        self.detector.eval()
        self.detector.temporal.train(mode)
        return self

    def forward(self, samples: Sequence[dict]) -> dict[str, Tensor]:
        """Compute the losses of a batch; those of the alignment are means over the samples.

        Args:
            samples: of `AdaptationMapper`: `image`, `spoilt_image`, `ref_images`, `ref_offsets`.
        """
        batch, alignments = zip(*(self.adapted_maps(sample) for sample in samples), strict=True)
        losses = {name: loss(batch) for name, loss in self.losses.items()}
        for name in alignments[0]:
            losses[name] = _mean([losses_of[name] for losses_of in alignments])
        return losses

    def adapted_maps(self, sample: dict) -> tuple[dict[str, AdaptedMap], dict[str, Tensor]]:
        """Aggregate a sample with its clean and with its spoilt key frame.

        Returns:
            Each aggregated map, and the losses of the alignment in training, by name.
        """
        images = [sample["image"], sample["spoilt_image"], *sample["ref_images"]]
        call = self.detector.prepare([{**sample, "image": image} for image in images])
        with torch.no_grad():
            features = self.detector.image_backbone(*call.args, **call.kwargs)
        temporal = self.detector.temporal
        codes = temporal.encode(features, call.images)
        offsets = list(sample["ref_offsets"])
        rows = {offset: row for row, offset in enumerate(offsets, 2)}
        request = FusionRequest(0, offsets, [])
        # Both passes have the same reference frames; only the row of the key frame differs.
        fused = {
            key: temporal.fuse_one(request, BatchCodes(codes, {**rows, 0: row}))
            for key, row in (("clean", 0), ("spoilt", 1))
        }
        maps = {
            level: AdaptedMap(
                teacher=features[level][:1],
                spoilt=features[level][1:2],
                restored=fused["spoilt"][level].feature,
                kept=fused["clean"][level].feature,
                flow=fused["spoilt"][level].flow,
            )
            for level in temporal.aggregators
        }
        alignment: dict[str, list[Tensor]] = {}
        for aggregation in fused["clean"].values():
            for name, loss in aggregation.losses.items():
                alignment.setdefault(name, []).append(loss)
        return maps, {name: _mean(values) for name, values in alignment.items()}
