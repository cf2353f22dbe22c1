"""Outlines of the objects of a generated set: the masks that its annotation files do not hold."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from .casting import cast_split, video_folder
from .options import MovingShapesOptions
from .scene import Scene
from .storage import MARKER, VERSION, read_marker

Outlines = dict[tuple[str, int, int], list[float]]
"""Polygon x1, y1, x2, y2, ... by video folder, frame and track id."""


def moving_shapes_outlines(root: str | os.PathLike[str], split: str) -> Outlines:
    """Plans the videos of a set anew, without drawing them, and returns the objects' outlines.

    Args:
        root: the folder of a complete set.
        split: "train" or "val".

    Returns:
        For each object that touches a frame its outline in pixels of the frame, whose corner is
        (0, 0), clipped to it. Like a box it also covers what something stands before.

    Raises:
        FileNotFoundError: if there is no complete set.
        ValueError: if another version of the generator made it.
    """
    marker = read_marker(Path(root))
    if marker is None:
        raise FileNotFoundError(
            f"{root} has no {MARKER}; make the set with `iff-detectron2 synth {root}`"
        )
    if marker.get("version") != VERSION:
        raise ValueError(
            f"{root} was made by version {marker.get('version')} of the generator, this is version "
            f"{VERSION}; make it anew with `iff-detectron2 synth --overwrite {root}`"
        )
    fields = {**marker["options"], "size": tuple(marker["options"]["size"])}
    options = MovingShapesOptions(**fields)
    width, height = options.size
    frame_corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], np.float32)
    outlines: Outlines = {}
    for index, roles in enumerate(cast_split(options, split)):
        scene = Scene(options, split, index, roles)
        for track_id, actor in enumerate(scene.actors):
            for frame in range(scene.num_frames):
                corners = actor.outline(frame).astype(np.float32)
                area, clipped = cv2.intersectConvexConvex(corners, frame_corners)
                if area > 0 and clipped is not None and len(clipped) >= 3:
                    key = (video_folder(split, index), frame, track_id)
                    outlines[key] = clipped.reshape(-1).astype(float).tolist()
    return outlines
