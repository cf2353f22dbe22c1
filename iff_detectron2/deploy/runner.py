"""Video in, boxes out, from the programs of an exported detector."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
import torchvision  # noqa: F401  whose operators the programs hold
from torch import Tensor

import iff_detectron2.layers  # noqa: F401  and ours
from iff_detectron2.structures import Detections, TemporalWindow

from .frame_input import frame_input
from .manifest import FRAME, HEADS, KEY, Manifest, read_manifest

Maps = dict[str, Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class _Frame:
    """A frame that waits for its turn as key frame."""

    index: int
    size: tuple[int, int]
    input_size: tuple[int, int]


class VideoRunner:
    """Detects in a video whose frames come one at a time, as `engine.VideoPredictor` does.

    It needs torch, torchvision, numpy and Pillow; neither Detectron2 nor the config, and it builds
    no model. Load only folders that you trust: the files in it are programs.

    Attributes:
        manifest: what the folder holds.
        window: reference frames of a key frame.
    """

    def __init__(self, folder: str | Path, num_refs: int | None = None) -> None:
        """
        Args:
            folder: what `iff-detectron2 export --output` wrote.
            num_refs: reference frames of a key frame, where the export takes any number; None for
                those it was exported with.

        Raises:
            FileNotFoundError, ValueError: as `read_manifest`; for a number of reference frames
                that the export does not take; where its device is not there.
        """
        folder = Path(folder)
        self.manifest: Manifest = read_manifest(folder)
        self.window: TemporalWindow = self.manifest.window
        if num_refs is not None and num_refs != self.window.num_refs:
            if not self.manifest.any_window or num_refs < 2:
                takes = "two or more" if self.manifest.any_window else f"{self.window.num_refs}"
                raise ValueError(f"{folder} takes {takes} reference frames, got {num_refs}")
            self.window = replace(self.window, num_refs=num_refs)
        self._device = torch.device(self.manifest.device)
        if self._device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"{folder} was exported for a GPU, and none is here; export it anew")
        self._programs: dict[str, Callable[..., Any]] = {
            name: torch.export.load(folder / name).module()
            for name in (FRAME, KEY)
            if name in self.manifest.files
        }
        if HEADS in self.manifest.files:
            self._programs[HEADS] = torch.jit.load(folder / HEADS, map_location=self._device)
        self.reset()

    def reset(self) -> None:
        """Forget the video: the next frame is the first of another."""
        self._received = 0
        self._size = (0, 0)
        self._waiting: tuple[_Frame, ...] = ()
        self._codes: dict[int, dict[str, Tensor]] = {}

    @property
    def delay(self) -> int:
        """Number of frames that come between a frame and its result."""
        return self.window.lookahead

    def push(self, frame: np.ndarray) -> list[tuple[int, Detections]]:
        """Take the next frame and return the detections that are complete with it.

        If anything goes wrong, the stream stays as it was: the frame can be pushed again.

        Args:
            frame: uint8 BGR [H, W, 3], all of one size.

        Returns:
            Index and detections, in pixels of the frame as it was given, of no frame or one.

        Raises:
            ValueError: the size changes, or the heads were not exported.
        """
        return self._push(frame, self._detect)

    def flush(self) -> list[tuple[int, Detections]]:
        """End the video: return the results that waited for frames that will not come."""
        return self._flush(self._detect)

    def push_maps(self, frame: np.ndarray) -> list[tuple[int, Maps]]:
        """Do as `push`, but return the feature maps that the detector's heads take, by name."""
        return self._push(frame, self._maps_of)

    def flush_maps(self) -> list[tuple[int, Maps]]:
        """Do as `flush`, but return feature maps."""
        return self._flush(self._maps_of)

    def __call__(
        self, frames: Iterable[np.ndarray]
    ) -> Iterator[tuple[int, np.ndarray, Detections]]:
        """Detect in a video of any length, from its start to its end.

        Yields:
            Index, frame as given, and its detections, in order.
        """
        self.reset()
        waiting: deque[np.ndarray] = deque()
        for frame in frames:
            waiting.append(frame)
            for index, found in self.push(frame):
                yield index, waiting.popleft(), found
        for index, found in self.flush():
            yield index, waiting.popleft(), found

    @torch.inference_mode()
    def _push(self, frame: np.ndarray, result: Callable[[_Frame, Maps], T]) -> list[tuple[int, T]]:
        image = frame_input(frame, self.manifest.input)
        size = (frame.shape[0], frame.shape[1])
        if self._received and size != self._size:
            old = self._size
            raise ValueError(
                f"frame {self._received} is {size[1]}x{size[0]} pixels and those before it "
                f"{old[1]}x{old[0]}; feed frames of one size, or call flush() or reset() first"
            )
        # Nothing is changed before all is done, so that what fails can be done again.
        codes = {**self._codes, self._received: self._encode(image)}
        received = self._received + 1
        input_size = (image.shape[2], image.shape[3])
        waiting = (*self._waiting, _Frame(self._received, size, input_size))
        results = []
        if waiting[0].index + self.delay < received:
            results.append(self._result(waiting[0], codes, received, result))
            waiting = waiting[1:]
        next_key = waiting[0].index if waiting else received
        first = next_key + min((0, *self.window.offsets))
        self._codes = {index: kept for index, kept in codes.items() if index >= first}
        self._received, self._waiting, self._size = received, waiting, size
        return results

    @torch.inference_mode()
    def _flush(self, result: Callable[[_Frame, Maps], T]) -> list[tuple[int, T]]:
        results = [self._result(f, self._codes, self._received, result) for f in self._waiting]
        self.reset()
        return results

    def _encode(self, image: Tensor) -> dict[str, Tensor]:
        given = self._programs[FRAME](image.to(self._device))
        return dict(zip((c.name for c in self.manifest.codes), given, strict=True))

    def _result(
        self,
        frame: _Frame,
        codes: dict[int, dict[str, Tensor]],
        length: int,
        result: Callable[[_Frame, Maps], T],
    ) -> tuple[int, T]:
        own = codes[frame.index]
        maps = {m.name: own[f"{m.name}.feature"] for m in self.manifest.maps}
        if KEY in self._programs:
            refs = self.window.frames(frame.index, length)
            names = self.manifest.key_codes
            stacked = tuple(torch.cat([codes[i][name] for i in refs]) for name in names)
            offsets = torch.tensor([i - frame.index for i in refs], device=self._device)
            fused = self._programs[KEY](tuple(own[name] for name in names), stacked, offsets)
            maps.update(zip(self.manifest.fused, fused, strict=True))
        return frame.index, result(frame, maps)

    def _maps_of(self, frame: _Frame, maps: Maps) -> Maps:
        return maps

    def _detect(self, frame: _Frame, maps: Maps) -> Detections:
        if HEADS not in self._programs:
            why = self.manifest.left_out.get(HEADS, "they were not exported")
            raise ValueError(
                f"this folder has no heads: {why}; push_maps and flush_maps give the feature maps"
            )
        # The heads look at the size of their image alone.
        blank = torch.zeros(1, dtype=torch.uint8, device=self._device)
        blank = blank.expand(1, len(self.manifest.input.pixel_mean), *frame.input_size)
        boxes, scores, classes = self._programs[HEADS](blank, *maps.values())
        return _in_frame(frame, (boxes.cpu(), scores.cpu(), classes.cpu()))


def _in_frame(frame: _Frame, found: Sequence[Tensor]) -> Detections:
    """Bring detections from pixels of the input to those of the frame (detector_postprocess)."""
    boxes, scores, classes = found
    height, width = frame.size
    scale = torch.tensor([width / frame.input_size[1], height / frame.input_size[0]]).repeat(2)
    boxes = boxes * scale
    boxes = torch.minimum(boxes.clamp(min=0), torch.tensor([width, height] * 2).float())
    kept = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    columns = [x[kept].numpy() for x in (boxes, scores, classes)]
    return Detections(np.full(len(columns[0]), frame.index), *columns)
