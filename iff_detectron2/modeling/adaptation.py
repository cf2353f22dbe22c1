"""Losses that teach temporal aggregation without labels: a frozen detector is its own teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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

# Least harm that counts, as a share of the map's own mean square: where the deterioration changed
# nothing there is nothing to restore, and no unit to measure in.
LEAST_HARM = 1e-4


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

    def harm(self) -> Tensor:
        """Return the mean square that the deterioration did to the map, a scalar above 0."""
        teacher = self.teacher.float()
        least = LEAST_HARM * teacher.square().mean()
        harm = (self.spoilt.float() - teacher).square().mean()
        return torch.maximum(harm, least).clamp(min=1e-8)  # a map of zeros has no unit at all

    def share_of_harm(self, feature: Tensor) -> Tensor:
        """Return the mean square error of a map as a share of the harm that was done, a scalar.

        1 for the spoilt map itself: doing nothing.
        """
        return (feature.float() - self.teacher.float()).square().mean() / self.harm()


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
    def forward(self, maps: Mapping[str, AdaptedMap]) -> Tensor:
        """Compute the weighted loss of one key frame, a scalar.

        Args:
            maps: each aggregated map, by its name.
        """


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


@ADAPTATION_LOSS_REGISTRY.register()
class RestorationLoss(AdaptationLoss):
    """What is left of the harm after aggregation: |restored - teacher|^2 / |spoilt - teacher|^2."""

    @configurable
    def __init__(self, *, weight: float) -> None:
        super().__init__(weight)

    @classmethod
    def from_config(cls, cfg):
        return {"weight": cfg.MODEL.IFF.ADAPT.RESTORATION_WEIGHT}

    def forward(self, maps: Mapping[str, AdaptedMap]) -> Tensor:
        return self.weight * _mean([m.share_of_harm(m.restored) for m in maps.values()])


@ADAPTATION_LOSS_REGISTRY.register()
class HarmlessnessLoss(AdaptationLoss):
    """What aggregation does to a clean key frame: |kept - teacher|^2 / |spoilt - teacher|^2."""

    @configurable
    def __init__(self, *, weight: float) -> None:
        super().__init__(weight)

    @classmethod
    def from_config(cls, cfg):
        return {"weight": cfg.MODEL.IFF.ADAPT.HARMLESSNESS_WEIGHT}

    def forward(self, maps: Mapping[str, AdaptedMap]) -> Tensor:
        return self.weight * _mean([m.share_of_harm(m.kept) for m in maps.values()])


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
        """Compute the losses, mean over the samples.

        Args:
            samples: of `AdaptationMapper`: `image`, `spoilt_image`, `ref_images`, `ref_offsets`.
        """
        collected: dict[str, list[Tensor]] = {}
        for sample in samples:
            maps, alignment = self.adapted_maps(sample)
            losses = {name: loss(maps) for name, loss in self.losses.items()}
            for name, value in {**losses, **alignment}.items():
                collected.setdefault(name, []).append(value)
        return {name: _mean(values) for name, values in collected.items()}

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
