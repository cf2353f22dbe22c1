import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from iff_detectron2.data import register_imagenet_vid
from iff_detectron2.data.moving_shapes import (
    MOVING_SHAPES_CLASSES,
    MovingShapesOptions,
    generate_moving_shapes,
    moving_shapes_outlines,
)
from iff_detectron2.data.moving_shapes.casting import cast_split
from iff_detectron2.data.moving_shapes.scene import Scene


def rasterised(corners, size):
    """Pixels whose middle is on the same side of all edges of a convex polygon."""
    width, height = size
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    sides = [
        (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)
        for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ]
    return np.all(np.stack(sides) >= 0, axis=0) | np.all(np.stack(sides) <= 0, axis=0)


def test_outlines_are_what_is_drawn():
    """Every class, in frames with and without a pose that narrows it."""
    options = MovingShapesOptions(num_train_videos=6, num_val_videos=0, severity=2.0)
    classes = set()
    for index, roles in enumerate(cast_split(options, "train")):
        scene = Scene(options, "train", index, roles)
        for actor in scene.actors:
            poses = [run.start + run.length // 2 for run in actor.runs if run.kind == "pose"]
            for frame in [0, *poses[:1]]:
                layer = actor.draw(frame, None)
                height, width = layer.mask.shape
                drawn = rasterised(actor.outline(frame) - layer.origin, (width, height))
                union = np.count_nonzero(drawn | layer.mask)
                assert np.count_nonzero(drawn & layer.mask) / union > 0.93
            classes.add(actor.category_id)
    assert len(classes) == len(MOVING_SHAPES_CLASSES)


@pytest.fixture
def small_set(tmp_path):
    root = tmp_path / "moving_shapes"
    generate_moving_shapes(
        root, num_train_videos=4, num_val_videos=0, num_frames=5, num_workers=1, progress=False
    )
    return root


def test_every_annotated_object_has_an_outline_that_fills_its_box(small_set, clean_catalogs):
    outlines = moving_shapes_outlines(small_set, "train")
    shapes = {name: name for name in MOVING_SHAPES_CLASSES}
    register_imagenet_vid("shapes", small_set, "VID_train_15frames", classes=shapes)
    count = 0
    for sample in DatasetCatalog.get("shapes"):
        for annotation in sample["annotations"]:
            key = (sample["video_id"], sample["frame_index"], annotation["track_id"])
            points = np.reshape(outlines[key], (-1, 2))
            assert (points >= 0).all()
            assert (points <= (sample["width"], sample["height"])).all()
            extent = [*points.min(axis=0), *points.max(axis=0)]
            # A sharp corner covers no pixel.
            np.testing.assert_allclose(extent, annotation["bbox"], atol=3)
            count += 1
    assert count > 10


def test_a_folder_without_a_set(tmp_path):
    with pytest.raises(FileNotFoundError, match="iff-detectron2 synth"):
        moving_shapes_outlines(tmp_path, "train")


def test_a_set_of_another_version(small_set):
    marker = small_set / "moving_shapes.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "version": 0}))
    with pytest.raises(ValueError, match="version 0 of the generator"):
        moving_shapes_outlines(small_set, "train")
