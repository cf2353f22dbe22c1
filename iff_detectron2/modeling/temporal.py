"""Turns the feature maps of a batch of frames into the aggregated maps of its key frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from iff_detectron2.structures import TemporalWindow

from .aggregation import Aggregation, Aggregator, Codes, build_aggregator
from .frame_memory import FrameCodes, FrameMemory

# Iterations between two looks at the flow: as often as Detectron2 writes metrics, since each look
# waits for the GPU.
LOG_PERIOD = 20


@dataclass
class FusionRequest:
    """One key frame to be detected in.

    Attributes:
        memory: where the codes of its frames are, once the new ones are added.
        key: frame index of the key frame.
        refs: frame indices of its neighbours; a frame may stand there more than once.
        new: frame indices of those images of the batch that belong to this request, in order.
    """

    memory: FrameMemory
    key: int
    refs: list[int]
    new: list[int]


@dataclass
class Fusion:
    """What was made of a request: the aggregation on each feature map, by its name."""

    request: FusionRequest
    levels: dict[str, Aggregation]


def _reset(module: TemporalAggregation, _: object) -> None:
    module.reset()


class TemporalAggregation(nn.Module):
    """Holds the aggregators of a video detector and feeds them from its backbone.

    A forward pass of the detector calls `plan` (which frames are to go through the backbone?) and,
    by a hook behind the backbone, `fuse` (from the maps of those frames to those of the key
    frames). In training, and for samples that carry their whole window, the frames of a sample are
    forgotten after its fusion; in streaming they stay in the frame memory for the next key frame.
    """

    @configurable
    def __init__(
        self,
        *,
        aggregators: Mapping[str, Aggregator],
        window: TemporalWindow,
        streaming: bool = True,
    ) -> None:
        """
        Args:
            aggregators: one for each feature map to aggregate, by the name of the map.
            window: neighbours of a key frame in streaming.
            streaming: samples of a video come in order and carry only the frames that are new to
                the window; otherwise each carries its whole window.
        """
        super().__init__()
        self.aggregators = nn.ModuleDict(aggregators)
        self.window = window
        self.streaming = streaming
        self.memory = FrameMemory()
        self.last: list[Fusion] = []
        self._requests: list[FusionRequest] = []
        # Features of other weights must not be fused with new ones.
        self.register_load_state_dict_post_hook(_reset)

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]):
        names = list(cfg.MODEL.IFF.IN_FEATURES) or list(input_shape)
        for name in names:
            if name not in input_shape:
                raise ValueError(
                    f"MODEL.IFF.IN_FEATURES names {name!r}, which is not among the features of the "
                    f"backbone: {', '.join(input_shape)}"
                )
        video = cfg.TEST.VIDEO
        return {
            "aggregators": {name: build_aggregator(cfg, input_shape[name]) for name in names},
            "window": TemporalWindow(video.NUM_REFS, video.STRIDE, video.CAUSAL),
            "streaming": video.STREAMING,
        }

    def __getstate__(self) -> dict[str, Any]:
        # A copy starts between two batches: what these hold belongs to the batch at hand.
        return {**self.__dict__, "last": [], "_requests": []}

    def train(self, mode: bool = True) -> TemporalAggregation:
        self.reset()
        return super().train(mode)

    def reset(self) -> None:
        """Forgets the stream: the next frame starts a new video."""
        self.memory.clear()
        self.last, self._requests = [], []

    def plan(self, batched_inputs: Sequence[dict]) -> list[Tensor]:
        """Decides which images the backbone must see, and notes what `fuse` is to make of them.

        Args:
            batched_inputs: samples of `VIDDatasetMapper`. A sample without `ref_images` is a still.

        Returns:
            Images [3, H, W], possibly none: at the end of a video a window brings no new frame.
        """
        streaming = self.streaming and not self.training
        if streaming and len(batched_inputs) > 1 and any("video_id" in x for x in batched_inputs):
            raise ValueError(
                f"a stream is tested one frame at a time, got {len(batched_inputs)} at once; use a "
                "test batch size of 1 or TEST.VIDEO.STREAMING False"
            )
        self._requests = []
        images: list[Tensor] = []
        for sample in batched_inputs:
            offsets = sample.get("ref_offsets", [])
            frames = dict(zip(offsets, sample.get("ref_images", []), strict=True))
            # An offset of 0 is the key frame repeated: it needs no second pass.
            frames[0] = sample["image"]
            if streaming and "video_id" in sample:
                request, new = self._stream(sample, frames)
            else:
                request = FusionRequest(FrameMemory(), 0, list(offsets), list(frames))
                new = frames
            images.extend(new.values())
            self._requests.append(request)
        return images

    def _stream(
        self, sample: dict, frames: dict[int, Tensor]
    ) -> tuple[FusionRequest, dict[int, Tensor]]:
        """The request for the next frame of a stream, and those of its frames not yet seen."""
        t, length = sample["frame_index"], sample["video_length"]
        self.memory.start(sample["video_id"], tuple(sample["image"].shape[-2:]))
        refs = self.window.frames(t, length)
        self.memory.keep_only([t, *refs])
        new = {t + o: image for o, image in frames.items() if t + o not in self.memory}
        missing = sorted({i for i in refs if i not in self.memory and i not in new})
        if missing:
            raise ValueError(
                f"frame {t} of video {sample['video_id']!r} needs frames {missing}, which are "
                "neither in the frame memory nor in the sample: feed the frames of a video in "
                "order (VideoInferenceSampler) or set TEST.VIDEO.STREAMING False"
            )
        return FusionRequest(self.memory, t, refs, list(new)), new

    def fuse(
        self, module: nn.Module, args: tuple, features: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Maps the backbone's features of the planned images to those of the key frames.

        This is a forward hook of the backbone; without a plan the features pass as they are.
        """
        if not self._requests:
            return features
        requests, self._requests = self._requests, []
        codes = {name: self._encode(name, x) for name, x in features.items()}
        self.last = []
        start = 0
        for request in requests:
            for index, frame in enumerate(request.new, start):
                one = {
                    level: {name: x[index : index + 1] for name, x in level_codes.items()}
                    for level, level_codes in codes.items()
                }
                stays = request.memory is self.memory
                request.memory.add(frame, _stand_alone(one) if stays else one)
            start += len(request.new)
            self.last.append(Fusion(request, self._fuse_one(request)))
        if self.training:
            self._log_alignment()
        return {
            level: torch.cat([f.levels[level].feature for f in self.last]) for level in features
        }

    def _encode(self, level: str, features: Tensor) -> Codes:
        if level not in self.aggregators:
            return {"feature": features}
        return cast(Aggregator, self.aggregators[level]).encode(features)

    def _fuse_one(self, request: FusionRequest) -> dict[str, Aggregation]:
        key = request.memory.gather([request.key])
        if request.refs:
            refs = request.memory.gather(request.refs)
        else:
            refs = {n: {k: x[:0] for k, x in level.items()} for n, level in key.items()}
        fused = {}
        for level in key:
            if level in self.aggregators:
                fused[level] = self.aggregators[level](key[level], refs[level])
            else:
                feature = key[level]["feature"]
                fused[level] = Aggregation(feature, {}, None)
        return fused

    def pop_losses(self) -> dict[str, Tensor]:
        """Returns the losses of the last batch, mean over key frames and feature maps."""
        losses: dict[str, list[Tensor]] = {}
        for fusion in self.last:
            for aggregation in fusion.levels.values():
                for name, loss in aggregation.losses.items():
                    losses.setdefault(name, []).append(loss)
        self.last = []
        return {name: torch.stack(values).mean() for name, values in losses.items()}

    def _log_alignment(self) -> None:
        """Notes how far the flow reaches, the first thing to look at when alignment fails."""
        storage = get_event_storage()
        if (storage.iter + 1) % LOG_PERIOD:
            return
        aggregations = [a for fusion in self.last for a in fusion.levels.values()]
        flows = [a.flow.detach() for a in aggregations if a.flow is not None]
        reach = [flow.float().norm(dim=1).mean() for flow in flows if flow.numel()]
        if reach:
            storage.put_scalar("iff/mean_flow", torch.stack(reach).mean().item())


def _stand_alone(codes: FrameCodes) -> FrameCodes:
    """Codes of one frame without the autograd graph and the rest of the batch behind them."""
    return {
        level: {name: x.detach().clone() for name, x in level_codes.items()}
        for level, level_codes in codes.items()
    }
