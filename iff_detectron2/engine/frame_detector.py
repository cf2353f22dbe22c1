"""A detector that answers what streams of frames ask of it, several at a time in one batch."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from detectron2.modeling import build_model
from detectron2.structures import Instances
from torch import nn

from iff_detectron2.data.network_input import NetworkInput
from iff_detectron2.modeling.frame_memory import FrameMemory, build_frame_memory
from iff_detectron2.modeling.seam import VideoMixin
from iff_detectron2.structures import TemporalWindow
from iff_detectron2.structures.image import check_bgr_image

from .acceleration import (
    COMPILE_MODES,
    compile_for_video,
    mixed_precision,
    prepare_for_inference,
)
from .checkpoint import VideoCheckpointer
from .detector_output import OnItsWay, instances_of, named_output
from .lazy_config import build_lazy_model, lazy_of, yacs_of
from .memory_check import StreamSettings, check_stream, plan_stream
from .memory_plan import MemoryPlan
from .missing_weights import needed_weights
from .ready_frame import ReadyFrame
from .video_stream import Output, Step, VideoStream

ON_SIZE_CHANGE = ("error", "reset")
AMP_TYPES = {"": None, "float16": torch.float16, "bfloat16": torch.bfloat16}

# Frames between a frame that is done and the one with which its results are handed out late: as the
# GPU works on the next frame meanwhile, nobody waits for the copy. A CPU has nothing to wait for.
_LATE = {"cuda": 1}

Results = list[tuple[int, Instances]]
Outputs = list[tuple[int, dict[str, Any]]]


def load_model(cfg) -> nn.Module:
    """Build the model of a config with MODEL.WEIGHTS, for inference alone.

    Raises:
        FileNotFoundError, ValueError: if the weights are missing or of another model.
    """
    lazy = lazy_of(cfg)
    model = build_model(cfg) if lazy is None else build_lazy_model(lazy)
    needs = needed_weights(cfg, training=False)
    VideoCheckpointer(model, needs=needs).load(cfg.MODEL.WEIGHTS)
    return prepare_for_inference(model)


class FrameDetector:
    """What `VideoPredictor` and `MultiVideoPredictor` share: the model, and how frames get to it.

    Attributes:
        model: the detector.
        device: where it is.
        window: that of its streams; of no reference frames if it is plain.
    """

    def __init__(self, cfg, model: nn.Module | None = None) -> None:
        """
        Args:
            cfg: config; window, memory, precision and the rest are under TEST.VIDEO.
            model: the model of this config, to share it; it is put into evaluation mode and
                otherwise stays as it is. Without one it is built, MODEL.WEIGHTS loaded, and made
                fast (`engine.acceleration.prepare_for_inference`).

        Raises:
            ValueError: for a choice under TEST.VIDEO that does not exist, and for a detector that
                is given proposals with its images.
        """
        cfg = yacs_of(cfg)
        if cfg.MODEL.LOAD_PROPOSALS:
            raise ValueError(
                "MODEL.LOAD_PROPOSALS is True, but a video brings no proposals: use a detector "
                "that makes its own, as Faster R-CNN instead of Fast R-CNN"
            )
        video = cfg.TEST.VIDEO
        for key, value, known in (
            ("ON_SIZE_CHANGE", video.ON_SIZE_CHANGE, ON_SIZE_CHANGE),
            ("AMP", video.AMP, tuple(AMP_TYPES)),
            ("COMPILE", video.COMPILE, COMPILE_MODES),
        ):
            if value not in known:
                names = ", ".join(repr(name) for name in known)
                raise ValueError(f"TEST.VIDEO.{key} must be one of {names}, got {value!r}")
        self._to_input = NetworkInput(cfg)
        self._empty_memory = build_frame_memory(cfg)
        self.model = load_model(cfg) if model is None else model.eval()
        if video.COMPILE:
            compile_for_video(self.model, video.COMPILE)
        self.window = TemporalWindow(0)
        self.device = next(self.model.parameters()).device
        self.temporal = self.model.temporal if isinstance(self.model, VideoMixin) else None
        if self.temporal is not None:
            self.window = TemporalWindow.from_config(cfg)
        self.pairs_per_chunk: int = video.PAIRS_PER_CHUNK
        self.memory_limit: float = video.MEMORY_LIMIT
        self.on_size_change: str = video.ON_SIZE_CHANGE
        self.amp_type = AMP_TYPES[video.AMP]

    def prepare(self, frame: np.ndarray, name: str = "the frame") -> ReadyFrame:
        """Make a frame ready to be pushed: what can be done of it on another thread.

        Args:
            frame: uint8 BGR [H, W, 3].
            name: of the frame, for messages.

        Raises:
            TypeError, ValueError: it is no such frame.
        """
        check_bgr_image(frame, name)
        try:
            image = self._to_input(frame)
        except ValueError as error:  # of Pillow, for a side that would shrink to nothing
            height, width = frame.shape[:2]
            raise ValueError(f"{name} ({width}x{height} pixels): {error}") from error
        return ReadyFrame(frame, image.pin_memory() if self.device.type == "cuda" else image)

    def _new_stream(self, name: str = "") -> VideoStream:
        memory = FrameMemory(self._empty_memory.dtype, self._empty_memory.device)
        size_change = self.on_size_change
        return VideoStream(self.window, memory, self.device, on_size_change=size_change, name=name)

    def _held_back(self, late: bool) -> int:
        return _LATE.get(self.device.type, 0) if late else 0

    def _compute(self, steps: Sequence[Step]) -> list[OnItsWay | None]:
        """Answer what streams ask; images of one size go through the model in one batch.

        Those of different sizes would be padded to a common one in a batch, which shifts what a
        detector sees at their borders: they go one after the other.
        """
        answers: list[OnItsWay | None] = [None] * len(steps)
        groups: dict[tuple[Any, ...], list[int]] = {}
        for number, step in enumerate(steps):
            groups.setdefault((step.detect, *step.sample["image"].shape), []).append(number)
        for numbers in groups.values():
            members = [steps[number] for number in numbers]
            samples = [step.sample for step in members]
            # What CUDA graphs gave for the frames before may be overwritten: nobody has it still.
            # Without the compiler there are none, and to ask would import it.
            if "torch._inductor.cudagraph_trees" in sys.modules:
                torch.compiler.cudagraph_mark_step_begin()
            with self._streams_of(members):
                if not members[0].detect:
                    self.model.observe(*samples)  # type: ignore[operator]
                    continue
                for number, output in zip(numbers, self.model(samples), strict=True):
                    named = named_output(output, type(self.model).__name__)
                    answers[number] = OnItsWay(named, self.device)
        return answers

    @contextmanager
    def _streams_of(self, steps: Sequence[Step]) -> Iterator[None]:
        """Work with the model on the videos of steps, in this predictor's precision."""
        stream: AbstractContextManager = nullcontext()
        if self.temporal is not None:
            memories = [step.memory for step in steps]
            stream = self.temporal.stream(memories, self.window, self.pairs_per_chunk)
        with torch.inference_mode(), self._precision(), stream:
            yield

    def _precision(self) -> AbstractContextManager:
        if self.amp_type is None:
            return nullcontext()
        return mixed_precision(self.device.type, self.amp_type)

    def _instances(self, outputs: list[Output]) -> Results:
        """Return the detections among outputs."""
        name = type(self.model).__name__
        return [(index, instances_of(output, size, name)) for index, size, output in outputs]

    def plan(self, height: int, width: int, streams: int = 1) -> MemoryPlan:
        """Return the memory that frames of this size will take.

        Args:
            height, width: in pixels.
            streams: of such frames at once.
        """
        return plan_stream(self.model, self._input_shape(height, width), self._settings(streams))

    def check_memory(self, height: int, width: int, streams: int = 1) -> MemoryPlan:
        """Plan the memory for frames of this size.

        The limit is TEST.VIDEO.MEMORY_LIMIT, or else what the device has free.

        Args:
            height, width: in pixels.
            streams: of such frames at once.

        Raises:
            ValueError: if it does not fit; the message says which settings would.
        """
        shape = self._input_shape(height, width)
        return check_stream(self.model, shape, self._settings(streams), self.memory_limit)

    def _input_shape(self, height: int, width: int) -> tuple[int, ...]:
        return tuple(self._to_input(np.zeros((height, width, 3), np.uint8)).shape)

    def _settings(self, streams: int) -> StreamSettings:
        memory, chunk = self._empty_memory, self.pairs_per_chunk
        return StreamSettings(self.window, memory, chunk, self._precision, streams)
