"""One object of a video: its look, its way, its bad moments, and how it is drawn."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from iff_detectron2.data.deteriorations import blur_along, defocus

from .casting import Role
from .degradations import EXPOSURE, OBJECT_KINDS, Run, active_run, schedule_runs
from .motion import extents, plan_trajectory
from .objects import Sprite, outline_of, outline_points
from .options import MovingShapesOptions
from .textures import fractal_noise, random_color

_MIN_SIDE, _MAX_SIDE = 0.19, 0.5  # of the shorter side of the frame
_VISIBLE_BLUR = 0.15  # of the diameter: a shorter smear is no deterioration
_SLOW = 0.9  # motion IoU


@dataclass
class Layer:
    """A drawn object on a piece of the image plane, which may reach beyond the frame.

    Attributes:
        origin: x and y of the piece's first pixel in the frame.
        pixels: float32 (height, width, 4), premultiplied BGR and alpha.
        mask: boolean (height, width), the object's own pixels before any blur.
    """

    origin: tuple[int, int]
    pixels: np.ndarray
    mask: np.ndarray


class Actor:
    """An object with its trajectory and its deteriorations.

    Attributes:
        category_id: index into `MOVING_SHAPES_CLASSES`.
        diameter: longer side in pixels, without the path's own scale.
        runs: deteriorations of this object, in order.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        role: Role,
        options: MovingShapesOptions,
        *,
        num_frames: int,
        taken: list[np.ndarray],
    ) -> None:
        """Draw an object that starts away from the `taken` places, and add its own to them."""
        outline = outline_of(role.category_id)
        side = np.exp(rng.uniform(np.log(_MIN_SIDE), np.log(_MAX_SIDE))) * min(options.size)
        if outline == "capsule":  # half as high as wide: make up for it
            side *= 1.25
        stretch = rng.uniform(0.92, 1.09)
        self.category_id = role.category_id
        self._half = side / 2 * np.array([stretch, 1 / stretch])
        self.diameter = 2 * float(self._half.max())
        self._points = outline_points(outline)
        self._sprite = Sprite(rng, role.category_id, diameter=self.diameter)

        frame = np.asarray(options.size, np.float64)
        inset = np.minimum(self._half, frame / 2 - 1)
        places = rng.uniform(inset, frame - 1 - inset, (12, 2))
        if taken:
            gaps = np.linalg.norm(places[:, None] - np.stack(taken), axis=2).min(axis=1)
            places = places[np.argsort(-gaps)]
        taken.append(places[0])
        self.path = plan_trajectory(
            rng,
            points=self._points,
            half=self._half,
            start=places[0],
            size=options.size,
            num_frames=num_frames,
            motion_iou=role.motion_iou,
            crossing=role.crossing,
        )
        # Turning away narrows an object's box; a slow one would no longer be slow.
        self._narrowest = 0.92 if role.motion_iou >= _SLOW else 0.7
        way = np.linalg.norm(np.diff(self.path.centers, axis=0), axis=1)
        smear = float(np.median(way)) * EXPOSURE if len(way) else 0.0
        kinds = tuple(kind for kind in OBJECT_KINDS if kind != "motion_blur")
        if smear * 0.75 >= _VISIBLE_BLUR * self.diameter:
            kinds += ("motion_blur",) * 3  # few objects are fast enough to be smeared at all
        self.runs = schedule_runs(
            rng, num_frames=num_frames, severity=options.severity, kinds=kinds
        )
        self._occluders = {
            run.start: _Occluder(rng, self.diameter, run)
            for run in self.runs
            if run.kind == "occlusion"
        }

    def deterioration(self, frame: int, frame_run: Run | None) -> str | None:
        """Kind of what visibly spoils this object in a frame, or None."""
        own = active_run(self.runs, frame)
        if own is not None and (own.kind != "motion_blur" or self._is_smeared(frame, own)):
            return own.kind
        if frame_run is None:
            return None
        if frame_run.kind == "motion_blur" and not self._is_smeared(frame, frame_run):
            return None
        return frame_run.kind

    def _is_smeared(self, frame: int, run: Run) -> bool:
        smear = np.linalg.norm(self.path.velocity(frame)) * EXPOSURE * run.strength
        return bool(smear >= _VISIBLE_BLUR * self.diameter)

    def draw(self, frame: int, frame_run: Run | None) -> Layer:
        """Draw the object as it is in a frame, with the deteriorations of its own surface."""
        run = active_run(self.runs, frame)
        picture = self._sprite.face
        if run is not None and run.kind == "pose":
            away = min(0.35 + 0.75 * run.strength, 1.0)
            picture = cv2.addWeighted(picture, 1 - away, self._sprite.back, away, 0)
        half = self._half_sides(frame)

        smear = np.zeros(2)
        for blur in (run, frame_run):
            if blur is not None and blur.kind == "motion_blur":
                smear = self.path.velocity(frame) * EXPOSURE * blur.strength
        sigma = 0.0
        if run is not None and run.kind == "defocus":
            sigma = 0.13 * self.diameter * run.strength

        pad = int(np.ceil(np.abs(smear).max() / 2 + 3 * sigma)) + 2
        box = extents(self._points, half, self.path)[frame]
        x1, y1 = (int(v) for v in np.floor(box[:2]) - pad)
        x2, y2 = (int(v) for v in np.ceil(box[2:]) + pad)
        to_piece = self._to_frame(frame)
        to_piece[:, 2] -= (x1, y1)
        pixels = cv2.warpAffine(
            picture,
            to_piece @ self._sprite.to_object(),
            (x2 - x1 + 1, y2 - y1 + 1),
            flags=cv2.INTER_LINEAR,
        )
        mask = pixels[..., 3] >= 0.5
        if smear.any():
            pixels = blur_along(pixels, smear)
        if sigma:
            pixels = defocus(pixels, sigma)
        return Layer((x1, y1), pixels, mask)

    def outline(self, frame: int) -> np.ndarray:
        """Corners (n, 2) of the object's convex outline in a frame, x and y.

        The middle of the first pixel is (0.5, 0.5). What stands before the object, or the border
        of the frame, does not shrink it.
        """
        return self._points @ self._to_frame(frame)[:, :2].T + self._to_frame(frame)[:, 2] + 0.5

    def _half_sides(self, frame: int) -> np.ndarray:
        """Half width and height; an object that turns away is narrower."""
        run = active_run(self.runs, frame)
        narrowing = 1.0
        if run is not None and run.kind == "pose":
            narrowing = 1 - (1 - self._narrowest) * np.sin(np.pi * run.progress(frame))
        return self._half * (narrowing, 1)

    def _to_frame(self, frame: int) -> np.ndarray:
        """2x3 matrix from object coordinates to pixels, their middles at whole numbers."""
        angle, scale = self.path.angles[frame], self.path.scales[frame]
        cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
        half, center = self._half_sides(frame), self.path.centers[frame]
        return np.array(
            [
                [cos * half[0], -sin * half[1], center[0]],
                [sin * half[0], cos * half[1], center[1]],
            ]
        )

    def occluder(self, frame: int) -> Layer | None:
        """Return what stands before the object in a frame, if it is being occluded."""
        run = active_run(self.runs, frame)
        if run is None or run.kind != "occlusion":
            return None
        return self._occluders[run.start].draw(self.path.centers[frame], run.progress(frame))


class _Occluder:
    """A textured post that passes before an object within a few frames."""

    def __init__(self, rng: np.random.Generator, diameter: float, run: Run) -> None:
        width = diameter * (0.3 + 0.2 * min(run.strength, 1.2))
        self._size = (width, 1.5 * diameter)
        self._turn = rng.uniform(-40, 40) + (90 if rng.random() < 0.3 else 0)
        self._reach = 0.35 * diameter * rng.choice((-1, 1))
        side = int(np.ceil(1.7 * diameter)) | 1
        relief = fractal_noise(rng, (side, side), periods=(16, 8, 4))
        color = random_color(rng, rng.uniform(60, 190), 60)
        self._texture = np.clip(color + 30 * relief, 0, 255).astype(np.float32)

    def draw(self, center: np.ndarray, progress: float) -> Layer:
        side = self._texture.shape[0]
        turn = np.deg2rad(self._turn)
        shift = (2 * progress - 1) * self._reach * np.array([np.cos(turn), np.sin(turn)])
        middle = center + shift
        origin = (int(middle[0]) - side // 2, int(middle[1]) - side // 2)
        corners = cv2.boxPoints((tuple(middle - origin), self._size, self._turn))
        alpha = np.zeros((side, side), np.uint8)
        cv2.fillPoly(alpha, [np.round(corners * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        weight = alpha.astype(np.float32)[..., None] / 255
        pixels = np.concatenate([self._texture * weight, weight], axis=2)
        return Layer(origin, pixels, alpha >= 128)
