"""Annotations against what is really to be seen in the frames."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from iff_detectron2.data.moving_shapes import MOVING_SHAPES_CLASSES, MovingShapesOptions
from iff_detectron2.data.moving_shapes.casting import Role, cast_split
from iff_detectron2.data.moving_shapes.degradations import OBJECT_KINDS, Run
from iff_detectron2.data.moving_shapes.objects import Sprite, outline_of
from iff_detectron2.data.moving_shapes.scene import Scene, planned_scene

OPTIONS = MovingShapesOptions(seed=5, num_train_videos=8, num_frames=12, severity=0.0)


def _scene(roles: list[Role], index: int = 0, options: MovingShapesOptions = OPTIONS) -> Scene:
    return Scene(options, "train", index, roles)


@pytest.mark.parametrize("category_id", range(len(MOVING_SHAPES_CLASSES)))
def test_box_is_tight_around_the_pixels_that_the_object_changes(category_id: int) -> None:
    for crossing in (False, True):
        roles = [Role(category_id, 0.5, crossing)]
        scene, bare = _scene(roles, category_id), _scene(roles, category_id)
        bare.actors = []
        boxes = 0
        for frame in range(0, OPTIONS.num_frames, 3):
            image, annotations = scene.render(frame)
            background, _ = bare.render(frame)
            changed = np.abs(image.astype(int) - background).max(axis=2) > 3
            if not annotations:
                continue
            boxes += 1
            assert annotations[0].category_id == category_id
            x1, y1, x2, y2 = annotations[0].box
            columns, rows = np.flatnonzero(changed.any(axis=0)), np.flatnonzero(changed.any(axis=1))
            # Pixels covered by less than half change too: at most one further out (two at the
            # tip of a triangle), and none further in.
            found = np.array([columns[0], rows[0], columns[-1], rows[-1]])
            outwards = (np.array([x1, y1, x2, y2]) - found) * (1, 1, -1, -1)
            assert outwards.min() >= -1, (frame, annotations[0].box, found)
            assert outwards.max() <= 2, (frame, annotations[0].box, found)
        assert boxes > 0


def test_outlines_are_shared_by_two_classes_each() -> None:
    outlines = [outline_of(i) for i in range(len(MOVING_SHAPES_CLASSES))]
    assert {outline: outlines.count(outline) for outline in outlines} == {
        "disc": 2,
        "square": 2,
        "triangle": 2,
        "capsule": 2,
    }


def test_classes_of_an_outline_differ_inside_only() -> None:
    sprites = [
        Sprite(np.random.default_rng(0), i, diameter=40) for i in range(len(MOVING_SHAPES_CLASSES))
    ]
    for first in range(0, len(sprites), 2):
        one, other = sprites[first].face, sprites[first + 1].face
        np.testing.assert_array_equal(one[..., 3], other[..., 3])
        inside = one[..., 3] == 1
        # The two colours are at least 100 grey levels apart: a tenth of the pixels must differ so.
        assert np.mean(np.abs(one - other)[inside].max(axis=1) > 60) > 0.1


def test_colours_tell_nothing_of_the_class() -> None:
    rng = np.random.default_rng(0)
    for category_id in (0, 4):
        means = []
        for _ in range(40):
            face = Sprite(rng, category_id, diameter=24).face
            means.append(face[..., :3].sum(axis=(0, 1)) / face[..., 3].sum())
        assert np.std(means, axis=0).min() > 10


def test_severity_zero_has_no_deterioration() -> None:
    for index, roles in enumerate(cast_split(OPTIONS, "train")[:4]):
        scene = _scene(roles, index)
        assert scene.runs == []
        for frame in range(OPTIONS.num_frames):
            assert all(a.deterioration is None for a in scene.render(frame)[1])


@pytest.mark.parametrize("kind", OBJECT_KINDS)
def test_each_kind_spoils_the_object_and_keeps_its_track(kind: str) -> None:
    roles = [Role(1, 0.45, False)]
    if kind == "occlusion":  # its occluder is made with the plan, hence a planned run
        scene, run = _occluded_scene(roles)
    else:
        scene, run = _scene(roles, 2), Run(kind, 5, 3, 1.0)
    frame = run.start + run.length // 2
    scene.actors[0].runs = []
    before, plain = scene.render(frame)
    scene.actors[0].runs = [run]
    image, annotations = scene.render(frame)
    assert [a.deterioration for a in annotations] == [kind]
    assert [a.track_id for a in annotations] == [a.track_id for a in plain] == [0]
    assert annotations[0].occluded == (kind == "occlusion")
    if kind != "pose":  # which narrows the object
        assert annotations[0].box == plain[0].box
    x1, y1, x2, y2 = plain[0].box
    area = (slice(y1, y2 + 1), slice(x1, x2 + 1))
    assert np.abs(image[area].astype(int) - before[area]).mean() > 8


def _occluded_scene(roles: list[Role]) -> tuple[Scene, Run]:
    for seed in range(50):
        options = dataclasses.replace(OPTIONS, seed=seed, severity=1.0)
        scene = _scene(roles, 0, options)
        scene.runs = []
        runs = [r for r in scene.actors[0].runs if r.kind == "occlusion"]
        for run in runs:
            frame = run.start + run.length // 2
            if scene.render(frame)[1]:
                return scene, run
    raise AssertionError("no occlusion in 50 seeds")


def test_a_hidden_object_has_no_box() -> None:
    roles = [Role(0, 0.95, False), Role(2, 0.95, False)]
    scene = _scene(roles, 3)
    below, above = scene.actors
    assert [a.track_id for a in scene.render(0)[1]] == [0, 1]
    above.path.centers = below.path.centers
    above._half = 2 * below._half
    assert [a.track_id for a in scene.render(0)[1]] == [1]


def test_an_object_outside_the_frame_has_no_box() -> None:
    scene = _scene([Role(0, 0.95, False)], 3)
    scene.actors[0].path.centers += np.array([1000.0, 0.0])
    image, annotations = scene.render(0)
    assert annotations == []
    assert image.shape == (160, 224, 3)


def test_ground_motion_is_what_the_pixels_do() -> None:
    """Phase correlation of two frames without objects finds the displacement that is told."""
    roles = cast_split(OPTIONS, "train")[1]
    scene = planned_scene(OPTIONS, "train", 1)
    scene.actors = []
    frames = [scene.render(t)[0].mean(axis=2) for t in range(9)]
    assert len(planned_scene(OPTIONS, "train", 1).actors) == len(roles)
    window = cv2.createHanningWindow(frames[0].shape[::-1], cv2.CV_64F)
    found, _ = cv2.phaseCorrelate(frames[0], frames[8], window)
    told = scene.ground_motion(0, 8)
    assert np.hypot(*told) > 10
    assert np.abs(np.array(found) - told).max() < 1
