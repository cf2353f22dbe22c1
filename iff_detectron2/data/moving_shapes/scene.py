"""A video: objects before a moving background, drawn frame by frame with exact annotations."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from iff_detectron2.data.deteriorations import add_noise, blur_along, compress, defocus

from .actor import Actor, Layer
from .casting import SPLITS, Role, cast_split, random_stream
from .degradations import EXPOSURE, FRAME_KINDS, Run, active_run, schedule_runs
from .options import MovingShapesOptions
from .textures import background

MIN_VISIBLE = 0.3  # of an object's pixels: a box of less is left out
_OCCLUDED_BELOW = 0.85  # of the object's pixels in the frame
_NOBODY, _OCCLUDER = -1, -2


@dataclass(frozen=True)
class Annotation:
    """An object in a frame.

    Attributes:
        track_id: number of the object in its video.
        category_id: index into `MOVING_SHAPES_CLASSES`.
        box: x1, y1, x2, y2, the first and last pixel columns and rows that the object covers
            (0-based, both inclusive), clipped to the frame. What stands before the object does
            not shrink it.
        occluded: whether something hides a part of it.
        deterioration: kind of what spoils it in this frame, or None.
    """

    track_id: int
    category_id: int
    box: tuple[int, int, int, int]
    occluded: bool
    deterioration: str | None


class Scene:
    """One video of a split; the same for the same options, split and index."""

    def __init__(
        self, options: MovingShapesOptions, split: str, index: int, roles: list[Role]
    ) -> None:
        """Plan the whole video; nothing is drawn yet."""
        rng = random_stream(options.seed, SPLITS.index(split), index)
        self.num_frames = options.video_length(split)
        self.size = options.size
        margin = 48
        self._background = background(rng, (self.size[0] + 2 * margin, self.size[1] + 2 * margin))
        heading, speed = rng.uniform(0, 2 * np.pi), rng.uniform(0.15, 1.5)
        time = np.arange(self.num_frames)[:, None]
        drift = speed * np.array([np.cos(heading), np.sin(heading)])
        sway = rng.uniform(0, 6, 2) * np.sin(2 * np.pi * time / 45 + rng.uniform(0, 6, 2))
        self._pan = margin + sway + drift * (time - self.num_frames / 2)
        taken: list[np.ndarray] = []
        self.actors = [
            Actor(rng, role, options, num_frames=self.num_frames, taken=taken) for role in roles
        ]
        self.runs = schedule_runs(
            rng,
            num_frames=self.num_frames,
            severity=options.severity,
            kinds=FRAME_KINDS,
            whole_frame=True,
        )
        self._noise = rng

    def ground_motion(self, frame: int, other: int) -> np.ndarray:
        """Say how far what the ground shows in a frame has moved in another, (dx, dy) in pixels."""
        return self._pan[frame] - self._pan[other]

    def render(self, frame: int) -> tuple[np.ndarray, list[Annotation]]:
        """Draw a frame; frames must be drawn in order, as the noise goes on from one to the next.

        Args:
            frame: 0-based frame index.

        Returns:
            uint8 BGR image (height, width, 3) and the annotations of the objects in it.
        """
        frame_run = active_run(self.runs, frame)
        canvas = self._draw_background(frame, frame_run)
        owner = np.full(canvas.shape[:2], _NOBODY, np.int32)
        layers = [actor.draw(frame, frame_run) for actor in self.actors]
        for number, layer in enumerate(layers):
            _blend(canvas, owner, layer, number)
        for actor in self.actors:
            occluder = actor.occluder(frame)
            if occluder is not None:
                _blend(canvas, owner, occluder, _OCCLUDER)
        annotations = []
        for number, (actor, layer) in enumerate(zip(self.actors, layers, strict=True)):
            annotation = self._annotate(frame, frame_run, number, layer, owner)
            if annotation is not None:
                annotations.append(annotation)
                self._spoil_object(canvas, frame, actor, annotation)
        if frame_run is not None:
            canvas = self._spoil_frame(canvas, frame_run)
        return np.clip(np.round(canvas), 0, 255).astype(np.uint8), annotations

    def _draw_background(self, frame: int, run: Run | None) -> np.ndarray:
        x, y = self._pan[frame]
        view = cv2.warpAffine(
            self._background,
            np.array([[1, 0, x], [0, 1, y]], np.float64),
            self.size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        ).astype(np.float32)
        if run is not None and run.kind == "motion_blur":
            before, after = max(frame - 1, 0), min(frame + 1, self.num_frames - 1)
            pan = (self._pan[after] - self._pan[before]) / max(after - before, 1)
            view = blur_along(view, pan * EXPOSURE * run.strength)
        return view

    def _annotate(
        self, frame: int, run: Run | None, number: int, layer: Layer, owner: np.ndarray
    ) -> Annotation | None:
        inside, piece = _overlap(owner, layer)
        if inside is None or piece is None:
            return None
        shown = layer.mask[piece]
        if not shown.any():
            return None
        visible = int(np.count_nonzero(owner[inside] == number))
        if visible < MIN_VISIBLE * np.count_nonzero(layer.mask):
            return None
        columns, rows = np.flatnonzero(shown.any(axis=0)), np.flatnonzero(shown.any(axis=1))
        left, top = inside[1].start, inside[0].start
        actor = self.actors[number]
        return Annotation(
            track_id=number,
            category_id=actor.category_id,
            box=(
                int(left + columns[0]),
                int(top + rows[0]),
                int(left + columns[-1]),
                int(top + rows[-1]),
            ),
            occluded=bool(visible < _OCCLUDED_BELOW * np.count_nonzero(shown)),
            deterioration=actor.deterioration(frame, run),
        )

    def _spoil_object(
        self, canvas: np.ndarray, frame: int, actor: Actor, annotation: Annotation
    ) -> None:
        run = active_run(actor.runs, frame)
        if run is None or run.kind not in ("noise", "compression"):
            return
        x1, y1, x2, y2 = annotation.box
        # Wider than the object, so that the spoilt patch does not frame it.
        pad = 5 + int(0.2 * actor.diameter)
        area = (slice(max(y1 - pad, 0), y2 + pad + 1), slice(max(x1 - pad, 0), x2 + pad + 1))
        if run.kind == "noise":
            grain = max(actor.diameter / 13, 2)  # as coarse as the inner structure, to hide it
            sigma = 70 * run.strength
            canvas[area] = add_noise(self._noise, canvas[area], sigma=sigma, grain=grain)
        else:
            shrink = run.strength * actor.diameter / 18
            canvas[area] = compress(canvas[area], shrink=shrink, strength=run.strength)

    def _spoil_frame(self, canvas: np.ndarray, run: Run) -> np.ndarray:
        if run.kind == "defocus":
            return defocus(canvas, 0.03 * min(self.size) * run.strength)
        if run.kind == "noise":
            grain = max(min(self.size) / 40, 2)
            return add_noise(self._noise, canvas, sigma=50 * run.strength, grain=grain)
        if run.kind == "compression":
            shrink = run.strength * min(self.size) / 65
            return compress(canvas, shrink=shrink, strength=run.strength)
        return canvas  # motion blur is drawn with the background and the objects


def planned_scene(options: MovingShapesOptions, split: str, index: int) -> Scene:
    """Plan a video of a set again, to ask what its files do not say.

    Args:
        options: those of the set.
        split: `train` or `val`.
        index: number of the video in the split.
    """
    return Scene(options, split, index, cast_split(options, split)[index])


def _overlap(
    owner: np.ndarray, layer: Layer
) -> tuple[tuple[slice, slice] | None, tuple[slice, slice] | None]:
    """Where a layer lies in the frame, and that part of the layer; None twice if outside."""
    (x, y), (height, width) = layer.origin, layer.mask.shape
    x1, y1 = max(x, 0), max(y, 0)
    x2, y2 = min(x + width, owner.shape[1]), min(y + height, owner.shape[0])
    if x1 >= x2 or y1 >= y2:
        return None, None
    return (slice(y1, y2), slice(x1, x2)), (slice(y1 - y, y2 - y), slice(x1 - x, x2 - x))


def _blend(canvas: np.ndarray, owner: np.ndarray, layer: Layer, number: int) -> None:
    """Lay a layer over the canvas and note whose pixels these are now."""
    inside, piece = _overlap(owner, layer)
    if inside is None or piece is None:
        return
    pixels = layer.pixels[piece]
    canvas[inside] = canvas[inside] * (1 - pixels[..., 3:]) + pixels[..., :3]
    owner[inside][layer.mask[piece]] = number
