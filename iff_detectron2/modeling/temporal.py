"""Turns the feature maps of a batch of frames into the aggregated maps of its key frames."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from iff_detectron2.layers import resize_flow
from iff_detectron2.layers.pixels import layout_of
from iff_detectron2.structures import TemporalWindow

from .aggregation import Aggregation, Aggregator, build_aggregator
from .alignment_log import AlignmentLog, LoggedFlow
from .codes import Codes, CodesOfFrames, FrameCodes, Offsets
from .frame_memory import FrameMemory, WeightsMark, build_frame_memory
from .track_motion import TrackLoss, build_track_loss
from .video_pass import (
    FusionRequest,
    VideoPass,
    chunks_of_refs,
    codes_of_image,
    plan_pass,
    requests_with_codes,
    start_stream,
)


@dataclass
class Fusion:
    """What was made of a request.

    Attributes:
        request: the request.
        frames: where the codes of its frames are.
        levels: the aggregation on each feature map, by its name.
    """

    request: FusionRequest
    frames: CodesOfFrames
    levels: dict[str, Aggregation]


def _reset(module: TemporalAggregation, _: object) -> None:
    module.reset()


class TemporalAggregation(nn.Module):
    """Holds the aggregators of a video detector and feeds them from its backbone.

    A pass of the detector calls `plan` (which frames are to go through the backbone?) and, behind
    the backbone, `fuse` (from the maps of those frames to those of the key frames). In a stream the
    codes of frames stay in the frame memory for the next key frame; in training, and for samples
    that carry their whole window, they are used as they lie in the batch.

    Attributes:
        last: what the last pass made; empty in training, once its losses are taken.
    """

    @configurable
    def __init__(
        self,
        *,
        aggregators: Mapping[str, Aggregator],
        window: TemporalWindow,
        streaming: bool = True,
        flow_level: str = "",
        strides: Mapping[str, int] | None = None,
        gate: bool = False,
        pairs_per_chunk: int = 0,
        memory: FrameMemory | None = None,
        track_loss: TrackLoss | None = None,
    ) -> None:
        """
        Args:
            aggregators: one for each feature map to aggregate, by the name of the map.
            window: reference frames of a key frame in streaming.
            streaming: samples of a video come in order and carry only the frames that are new to
                the window; otherwise each carries its whole window.
            flow_level: the map whose flow is carried to all others; empty if each map finds its
                own.
            strides: pixels of the image per cell of each map, for a flow that is carried or
                compared with tracks; None to take those of the backbone that the detector gets.
            gate: add what the reference frames change times a learned scale that starts at zero,
                so that a trained detector starts with its old output.
            pairs_per_chunk: reference frames that are fused at a time in testing; 0 for all at
                once.
            memory: where a stream keeps its frames.
            track_loss: in training, loss of the flow against the tracks of the samples.
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
        self.strides = None if strides is None else dict(strides)
        self.pairs_per_chunk = pairs_per_chunk
        # Without a gate the names of the weights are those of a model that never had one.
        self.gates = nn.ParameterDict(
            {name: nn.Parameter(torch.zeros(())) for name in aggregators} if gate else {}
        )
        self._memories: Sequence[FrameMemory] = [FrameMemory() if memory is None else memory]
        self.track_loss = track_loss
        self.alignment_log = AlignmentLog()
        self.last: list[Fusion] = []
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
            "strides": {name: shape.stride for name, shape in input_shape.items()},
            "gate": iff.GATE,
            "pairs_per_chunk": video.PAIRS_PER_CHUNK,
            "memory": build_frame_memory(cfg),
            "track_loss": build_track_loss(cfg),
        }

    @property
    def memory(self) -> FrameMemory:
        """The frames of the stream; of the first one while there are several."""
        return self._memories[0]

    def take_strides(self, input_shape: Mapping[str, ShapeSpec]) -> None:
        """Take the strides of the maps from the backbone, where they were not given."""
        if self.strides is None:
            self.strides = {name: shape.stride for name, shape in input_shape.items()}

    def __getstate__(self) -> dict[str, Any]:
        # A copy starts between two passes: what the last one made belongs to the original.
        return {**self.__dict__, "last": []}

    def train(self, mode: bool = True) -> TemporalAggregation:
        if mode != self.training:
            self.reset()
        return super().train(mode)

    def reset(self) -> None:
        """Forget the stream: the next frame starts a new video."""
        for memory in self._memories:
            memory.clear()
        self.last = []

    @contextmanager
    def stream(
        self,
        memory: FrameMemory | Sequence[FrameMemory],
        window: TemporalWindow,
        pairs_per_chunk: int = 0,
    ) -> Iterator[None]:
        """Work on the stream of another memory, and come back to its own after it.

        Streams may take turns in any order, or run one frame each in a batch. The arguments are
        those of the constructor.

        Args:
            memory: frames of the other stream; of several, one for each sample of a batch.
            window: of the other streams.
            pairs_per_chunk: reference frames that are fused at a time; 0 for all.
        """
        own = self._memories, self.window, self.pairs_per_chunk, self.streaming
        self._memories = [memory] if isinstance(memory, FrameMemory) else memory
        self.window, self.pairs_per_chunk = window, pairs_per_chunk
        self.streaming = True
        try:
            yield
        finally:
            self._memories, self.window, self.pairs_per_chunk, self.streaming = own
            self.last = []

    def observe(
        self,
        samples: Sequence[dict],
        features: Mapping[str, Tensor],
        images: Tensor,
        mark: Callable[[], WeightsMark] | None = None,
    ) -> None:
        """Keep the next frame of each stream for key frames to come.

        Args:
            samples: as for `plan`, of a frame in order, one for each stream.
            features: the backbone's maps of these frames.
            images: what the backbone saw, [N, 3, H, W].
            mark: as for `plan`.
        """
        codes = self.encode(features, images)
        streams = list(zip(samples, self._memories, strict=True))
        for sample, memory in streams:
            start_stream(memory, sample, memory.newest, mark or self._mark)
        for row, (sample, memory) in enumerate(streams):
            memory.forget_before(sample["frame_index"] - self.window.span + 1)
            memory.add(sample["frame_index"], codes_of_image(codes, row, len(streams)))

    def plan(
        self,
        batched_inputs: Sequence[dict],
        mark: Callable[[], WeightsMark] | None = None,
    ) -> VideoPass:
        """Plan a pass; arguments and errors are those of `plan_pass`."""
        streams = self.streaming and not self.training
        memories = self._memories if streams else None
        return plan_pass(batched_inputs, self.window, memories, mark or self._mark)

    def _mark(self) -> WeightsMark:
        return WeightsMark(self)

    @contextmanager
    def running(self, plan: VideoPass) -> Iterator[None]:
        """Hold a pass together: if it fails, nothing of it stays in the memory of its stream."""
        self.last = []
        try:
            yield
        except BaseException:
            self.last = []
            for request in plan.requests:
                if request.memory is not None:
                    request.memory.discard(request.new)
            raise
        for request in plan.requests:
            if request.memory is not None:
                request.memory.last_key = request.key

    def fuse(
        self, plan: VideoPass, features: Mapping[str, Tensor], images: Tensor | None
    ) -> dict[str, Tensor]:
        """Map the backbone's features of the planned images to those of the key frames.

        Args:
            plan: the pass.
            features: the backbone's maps of its images; none if it has no images. There may be
                several of each kind per image: those of the first branch for all images, then
                those of the second, and so on; so are they returned.
            images: what the backbone saw, [N, 3, H, W]; None if it has no images.

        Returns:
            The maps of the key frames, in the memory format of the backbone.
        """
        codes = {} if images is None else self.encode(features, images)
        self.last, plan.fused = [], True
        for request, frames in requests_with_codes(plan, codes):
            self.last.append(Fusion(request, frames, self.fuse_one(request, frames)))
            if self.training and self.track_loss is not None:
                self._add_track_loss(self.last[-1])
        if self.training and self.alignment_log.is_due():
            self.alignment_log.write(self._logged_flows())
        if features:
            layouts = {level: layout_of(x) for level, x in features.items()}
        else:
            layouts = cast(FrameMemory, plan.requests[0].memory).layouts
        # In the backbone's layout, so that what comes next rounds as it does without aggregation.
        return {
            level: torch.cat([fusion.levels[level].feature for fusion in self.last]).contiguous(
                memory_format=layout
            )
            for level, layout in layouts.items()
        }

    def encode(self, features: Mapping[str, Tensor], images: Tensor) -> FrameCodes:
        """Return the codes of frames on every feature map.

        Args:
            features: the backbone's maps, [N, C, H, W] each, or several such batches one behind
                the other.
            images: what the backbone saw, [N, 3, H', W'].
        """
        codes: dict[str, Codes] = {}
        for level, x in features.items():
            codes[level] = {"feature": x}
            if level in self.aggregators:
                branches = len(x) // len(images)
                seen = images if branches == 1 else images.repeat(branches, 1, 1, 1)
                codes[level] = cast(Aggregator, self.aggregators[level]).encode(x, seen)
        return codes

    def fuse_one(self, request: FusionRequest, frames: CodesOfFrames) -> dict[str, Aggregation]:
        """Fuse the key frame of a request with its reference frames, on every feature map.

        Args:
            request: the request.
            frames: the codes of all its frames.
        """
        key = frames.gather([request.key])
        chunked = 0 < self.pairs_per_chunk < len(request.refs) and not self.training
        size = self.pairs_per_chunk if chunked else max(len(request.refs), 1)

        def aggregate(aggregator: Aggregator, level: str, flow: Tensor | None) -> Aggregation:
            chunks = chunks_of_refs(request, frames, level, key[level], flow, size)
            if chunked:
                return aggregator.forward_in_chunks(key[level], chunks, len(request.refs))
            ((refs, offsets, flow),) = chunks
            return aggregator(key[level], refs, offsets=offsets, flow=flow)

        return self._fuse_levels(key, aggregate)

    def fuse_codes(
        self, key: FrameCodes, refs: FrameCodes, offsets: Offsets
    ) -> dict[str, Aggregation]:
        """Fuse a key frame with its reference frames where all of their codes are at hand.

        Args:
            key: codes of the key frame, batch of 1.
            refs: codes of T reference frames.
            offsets: frames from the key frame to each of them.
        """

        def aggregate(aggregator: Aggregator, level: str, flow: Tensor | None) -> Aggregation:
            return aggregator(key[level], refs[level], offsets=offsets, flow=flow)

        return self._fuse_levels(key, aggregate)

    def _fuse_levels(
        self,
        key: FrameCodes,
        aggregate: Callable[[Aggregator, str, Tensor | None], Aggregation],
    ) -> dict[str, Aggregation]:
        """Fuse on every feature map; `aggregate` is given its aggregator, name and carried flow."""
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
                flow = self._carried(source, level, key[level]["feature"])
            aggregation = aggregate(aggregator, level, flow)
            if level in self.gates:
                plain = key[level]["feature"]
                aggregation.feature = plain + self.gates[level] * (aggregation.feature - plain)
            fused[level] = aggregation
        return fused

    def _carried(self, flow: Tensor, level: str, feature: Tensor) -> Tensor:
        """Return the flow of `flow_level` as that of another map."""
        strides = self.strides or {}
        if not strides.get(self.flow_level) or not strides.get(level):
            raise ValueError(
                f"the flow of {self.flow_level!r} cannot be carried to {level!r} without their "
                "strides: give TemporalAggregation strides={name of map: pixels per cell}"
            )
        height, width = feature.shape[-2:]
        return resize_flow(flow, (height, width), strides[self.flow_level] / strides[level])

    def _stride(self, level: str) -> int:
        if not (self.strides or {}).get(level):
            raise ValueError(
                f"the flow of {level!r} cannot be compared with tracks without its stride: give "
                "TemporalAggregation strides={name of map: pixels per cell}"
            )
        return cast(dict[str, int], self.strides)[level]

    def _add_track_loss(self, fusion: Fusion) -> None:
        """Add `loss_track` where flow is made."""
        assert self.track_loss is not None
        for level, aggregation in fusion.levels.items():
            estimated = level in self.aggregators and self.aggregators[level].estimates_flow
            if estimated and aggregation.flow is not None:
                tracks = fusion.request.tracks or [{}] * (1 + len(aggregation.flow))
                loss = self.track_loss(aggregation.flow, tracks, self._stride(level))
                aggregation.losses["loss_track"] = loss

    def pop_losses(self) -> dict[str, Tensor]:
        """Return the losses of the last batch, mean over key frames and feature maps."""
        losses: dict[str, list[Tensor]] = {}
        for fusion in self.last:
            for aggregation in fusion.levels.values():
                for name, loss in aggregation.losses.items():
                    losses.setdefault(name, []).append(loss)
        self.last = []
        return {name: torch.stack(values).mean() for name, values in losses.items()}

    def _logged_flows(self) -> Iterator[LoggedFlow]:
        for fusion in self.last:
            for level, aggregation in fusion.levels.items():
                if aggregation.flow is None:
                    continue
                tracks = fusion.request.tracks
                stride = self._stride(level) if tracks else 0
                yield LoggedFlow(aggregation.flow, tracks or (), stride)
