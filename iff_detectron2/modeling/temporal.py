"""Turns the feature maps of a batch of frames into the aggregated maps of its key frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from weakref import WeakSet

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from iff_detectron2.layers import resize_flow
from iff_detectron2.layers.pixels import layout_of
from iff_detectron2.structures import TemporalWindow

from .aggregation import Aggregation, Aggregator, Codes, build_aggregator
from .frame_memory import FrameCodes, FrameMemory, build_frame_memory

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
    for memory in module._streams:
        memory.clear()


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
        flow_level: str = "",
        gate: bool = False,
        pairs_per_chunk: int = 0,
        memory: FrameMemory | None = None,
    ) -> None:
        """
        Args:
            aggregators: one for each feature map to aggregate, by the name of the map.
            window: neighbours of a key frame in streaming.
            streaming: samples of a video come in order and carry only the frames that are new to
                the window; otherwise each carries its whole window.
            flow_level: the map whose flow is carried to all others; empty if each map finds its
                own.
            gate: add what the neighbours change times a learned scale that starts at zero, so
                that a trained detector starts with its old output.
            pairs_per_chunk: neighbours that are fused at a time in testing; 0 for all at once.
            memory: where a stream keeps its frames.
        """
        super().__init__()
        if pairs_per_chunk < 0:
            raise ValueError(
                f"TEST.VIDEO.PAIRS_PER_CHUNK must not be negative, got {pairs_per_chunk}"
            )
        if flow_level and not aggregators[flow_level].estimates_flow:
            raise ValueError(
                f"MODEL.IFF.FLOW.LEVEL is {flow_level!r}, but "
                f"{type(aggregators[flow_level]).__name__} predicts no flow that could be carried "
                "to other maps; leave it empty"
            )
        self.aggregators = nn.ModuleDict(aggregators)
        self.window = window
        self.streaming = streaming
        self.flow_level = flow_level
        self.pairs_per_chunk = pairs_per_chunk
        # Without a gate the names of the weights are those of a model that never had one.
        self.gates = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(())) for name in aggregators} if gate else {}
        )
        self.memory = FrameMemory() if memory is None else memory
        # Memories of other streams that this module has worked on.
        self._streams: WeakSet[FrameMemory] = WeakSet()
        self.last: list[Fusion] = []
        self._requests: list[FusionRequest] = []
        # Features of other weights must not be fused with new ones.
        self.register_load_state_dict_post_hook(_reset)

    @classmethod
    def from_config(cls, cfg, input_shape: dict[str, ShapeSpec]):
        iff, video = cfg.MODEL.IFF, cfg.TEST.VIDEO
        names = list(iff.IN_FEATURES) or list(input_shape)
        for name in names:
            if name not in input_shape:
                raise ValueError(
                    f"MODEL.IFF.IN_FEATURES names {name!r}, which is not among the features of the "
                    f"backbone: {', '.join(input_shape)}"
                )
        source = iff.FLOW.LEVEL
        if source and source not in names:
            raise ValueError(
                f"MODEL.IFF.FLOW.LEVEL is {source!r}, which is not among the aggregated features: "
                f"{', '.join(names)}"
            )
        return {
            "aggregators": {
                name: build_aggregator(
                    cfg, input_shape[name], carried_flow=bool(source) and name != source
                )
                for name in names
            },
            "window": TemporalWindow.from_config(cfg),
            "streaming": video.STREAMING,
            "flow_level": source,
            "gate": iff.GATE,
            "pairs_per_chunk": video.PAIRS_PER_CHUNK,
            "memory": build_frame_memory(cfg),
        }

    def __getstate__(self) -> dict[str, Any]:
        # A copy starts between two batches: what these hold belongs to the batch at hand.
        return {**self.__dict__, "last": [], "_requests": [], "_streams": WeakSet()}

    def train(self, mode: bool = True) -> TemporalAggregation:
        self.reset()
        return super().train(mode)

    def reset(self) -> None:
        """Forgets the stream: the next frame starts a new video."""
        self.memory.clear()
        self.last, self._requests = [], []

    @contextmanager
    def stream(
        self, memory: FrameMemory, window: TemporalWindow, pairs_per_chunk: int = 0
    ) -> Iterator[None]:
        """Works on the stream of another memory, and comes back to its own after it.

        Streams may take turns in any order, but not run at the same time. The arguments are those
        of the constructor.
        """
        own = self.memory, self.window, self.pairs_per_chunk, self.streaming
        self.memory, self.window, self.pairs_per_chunk = memory, window, pairs_per_chunk
        self.streaming = True
        self._streams.add(memory)
        try:
            yield
        finally:
            self.memory, self.window, self.pairs_per_chunk, self.streaming = own
            self.last = []

    def observe(self, sample: dict, features: dict[str, Tensor], images: Tensor) -> None:
        """Keep a frame of the stream for key frames to come.

        Args:
            sample: as for `plan`, of a frame in order.
            features: the backbone's maps of this frame alone.
            images: what the backbone saw, [1, 3, H, W].
        """
        t = sample["frame_index"]
        self.memory.start(sample["video_id"], tuple(sample["image"].shape[-2:]))
        self.memory.forget_before(t - self.window.span + 1)
        codes = {name: self._encode(name, x, images) for name, x in features.items()}
        self.memory.add(t, _stand_alone(codes))

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
        """Plan the next frame of a stream: its request, and those of its frames not yet seen."""
        t, length = sample["frame_index"], sample["video_length"]
        self.memory.start(sample["video_id"], tuple(sample["image"].shape[-2:]))
        refs = self.window.frames(t, length)
        self.memory.forget_before(min((t, *refs)))
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
        """Map the backbone's features of the planned images to those of the key frames.

        This is a forward hook of the backbone; without a plan the features pass as they are.
        """
        if not self._requests:
            return features
        requests, self._requests = self._requests, []
        (images,) = args
        codes = {name: self._encode(name, x, images) for name, x in features.items()}
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
            self.last.append(Fusion(request, self.fuse_one(request)))
        if self.training:
            self._log_alignment()
        fused = {
            level: torch.cat([f.levels[level].feature for f in self.last]) for level in features
        }
        # In the backbone's layout, so that what comes next rounds as it does without neighbours.
        return {
            level: x.contiguous(memory_format=layout_of(features[level]))
            for level, x in fused.items()
        }

    def _encode(self, level: str, features: Tensor, images: Tensor) -> Codes:
        if level not in self.aggregators:
            return {"feature": features}
        return cast(Aggregator, self.aggregators[level]).encode(features, images)

    def fuse_one(self, request: FusionRequest) -> dict[str, Aggregation]:
        """Fuses the key frame of a request with its neighbours, on every feature map.

        The codes of all its frames must be in its memory.
        """
        key = request.memory.gather([request.key])
        chunked = 0 < self.pairs_per_chunk < len(request.refs) and not self.training
        size = self.pairs_per_chunk if chunked else max(len(request.refs), 1)
        fused: dict[str, Aggregation] = {}
        # The map that finds the flow comes first.
        for level in sorted(key, key=lambda name: name != self.flow_level):
            if level not in self.aggregators:
                fused[level] = Aggregation(key[level]["feature"], {}, None)
                continue
            aggregator = cast(Aggregator, self.aggregators[level])
            flow = None
            if self.flow_level and level != self.flow_level:
                source = cast(Tensor, fused[self.flow_level].flow)
                height, width = key[level]["feature"].shape[-2:]
                flow = resize_flow(source, (height, width))
            chunks = self._chunks(request, level, key[level], flow, size)
            if chunked:
                aggregation = aggregator.forward_in_chunks(key[level], chunks, len(request.refs))
            else:
                ((refs, offsets, flow),) = chunks
                aggregation = aggregator(key[level], refs, offsets=offsets, flow=flow)
            if level in self.gates:
                plain = key[level]["feature"]
                aggregation.feature = plain + self.gates[level] * (aggregation.feature - plain)
            fused[level] = aggregation
        return fused

    @staticmethod
    def _chunks(
        request: FusionRequest, level: str, key: Codes, flow: Tensor | None, size: int
    ) -> Iterator[tuple[Codes, list[int], Tensor | None]]:
        """Codes, offsets and carried flow of `size` neighbours at a time; at least one chunk."""
        for start in range(0, max(len(request.refs), 1), size):
            part = slice(start, start + size)
            frames = request.refs[part]
            refs = (
                request.memory.refs(frames, level)
                if frames
                else {name: x[:0] for name, x in key.items()}
            )
            yield refs, [f - request.key for f in frames], None if flow is None else flow[part]

    def pop_losses(self) -> dict[str, Tensor]:
        """Return the losses of the last batch, mean over key frames and feature maps."""
        losses: dict[str, list[Tensor]] = {}
        for fusion in self.last:
            for aggregation in fusion.levels.values():
                for name, loss in aggregation.losses.items():
                    losses.setdefault(name, []).append(loss)
        self.last = []
        return {name: torch.stack(values).mean() for name, values in losses.items()}

    def _log_alignment(self) -> None:
        """Note how far the flow reaches, the first thing to look at when alignment fails."""
        storage = get_event_storage()
        if (storage.iter + 1) % LOG_PERIOD:
            return
        aggregations = [a for fusion in self.last for a in fusion.levels.values()]
        flows = [a.flow.detach() for a in aggregations if a.flow is not None]
        reach = [flow.float().norm(dim=1).mean() for flow in flows if flow.numel()]
        if reach:
            storage.put_scalar("iff/mean_flow", torch.stack(reach).mean().item())


def _stand_alone(codes: FrameCodes) -> FrameCodes:
    """Copy the codes of one frame, so that they keep neither their batch nor a graph alive.

    Maps are stored with all channels of a pixel side by side, the layout that the operators on
    pairs of frames read fastest. They are laid out here, once per frame; otherwise each pair that
    a frame is in would do it again.
    """
    layout = torch.channels_last
    return {
        level: {
            name: x.detach().clone(memory_format=layout if x.dim() == 4 else torch.preserve_format)
            for name, x in level_codes.items()
        }
        for level, level_codes in codes.items()
    }
