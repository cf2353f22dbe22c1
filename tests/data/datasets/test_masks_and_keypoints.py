"""Masks and keypoints of COCO-style files reach the model's ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog
from detectron2.structures import BitMasks, PolygonMasks
from PIL import Image

from iff_detectron2 import add_iff_config
from iff_detectron2.data import VIDDatasetMapper, register_coco_vid

pytestmark = pytest.mark.usefixtures("clean_catalogs")

RECTANGLE = [[10, 8, 30, 8, 30, 20, 10, 20]]  # 20 x 12 pixels


@pytest.fixture
def labels(coco_content, write_json, tmp_path: Path):
    """Every object gets the same rectangle and two keypoints; images are blank."""
    for image in coco_content["images"]:
        path = tmp_path / image["file_name"]
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48)).save(path)
    for annotation in coco_content["annotations"]:
        annotation["segmentation"] = RECTANGLE
        annotation["keypoints"] = [12, 10, 2, 25, 11, 1]
    for category in coco_content["categories"]:
        category["keypoints"] = ["left_eye", "right_eye"]
    return coco_content


@pytest.fixture
def mapper_of(write_json):
    """Dicts and a training mapper from a config that mirrors every clip."""

    def make(content: dict, **keys: object):
        path = write_json(content)
        register_coco_vid("set", path, path.parent)
        cfg = get_cfg()
        add_iff_config(cfg)
        cfg.DATASETS.TRAIN = ("set",)
        cfg.INPUT.MIN_SIZE_TRAIN = (48,)
        cfg.INPUT.RANDOM_FLIP = "none"
        cfg.merge_from_list([part for item in keys.items() for part in item])
        return DatasetCatalog.get("set"), VIDDatasetMapper(cfg, is_train=True)

    return make


def test_polygons_and_keypoints(labels, mapper_of) -> None:
    dicts, mapper = mapper_of(labels, **{"MODEL.MASK_ON": True, "MODEL.KEYPOINT_ON": True})
    instances = mapper(dicts[0])["instances"]
    assert isinstance(instances.gt_masks, PolygonMasks)
    assert instances.gt_masks.area().tolist() == [240, 240]
    assert instances.gt_keypoints.tensor.tolist() == [[[12.5, 10.5, 2], [25.5, 11.5, 1]]] * 2


def test_mirrored(labels, mapper_of) -> None:
    dicts, mapper = mapper_of(
        labels,
        **{
            "MODEL.MASK_ON": True,
            "MODEL.KEYPOINT_ON": True,
            "INPUT.MASK_FORMAT": "bitmask",
            "INPUT.RANDOM_FLIP": "horizontal",
        },
    )
    np.random.seed(0)  # noqa: NPY002 - Detectron2 draws from the global generator
    expected = np.zeros((48, 64), bool)
    expected[8:20, 64 - 30 : 64 - 10] = True
    seen = []
    for _ in range(12):
        instances = mapper(dicts[1])["instances"]
        mask = instances.gt_masks.tensor[0].numpy()
        points = instances.gt_keypoints.tensor[0].tolist()
        mirrored = instances.gt_boxes.tensor[0, 0].item() == 64 - 26
        seen.append(mirrored)
        np.testing.assert_array_equal(mask, expected if mirrored else expected[:, ::-1])
        # Mirrored, the right eye stands in the left eye's place.
        there = [[64 - 25.5, 11.5, 1], [64 - 12.5, 10.5, 2]]
        assert points == (there if mirrored else [[12.5, 10.5, 2], [25.5, 11.5, 1]])
    assert True in seen
    assert False in seen


def test_rle_masks(labels, mapper_of) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[8:20, 10:30] = 1
    rle = mask_util.encode(np.asfortranarray(mask))
    for annotation in labels["annotations"]:
        annotation["segmentation"] = {**rle, "counts": rle["counts"].decode()}
    dicts, mapper = mapper_of(labels, **{"MODEL.MASK_ON": True, "INPUT.MASK_FORMAT": "bitmask"})
    instances = mapper(dicts[0])["instances"]
    assert isinstance(instances.gt_masks, BitMasks)
    np.testing.assert_array_equal(instances.gt_masks.tensor[1].numpy(), mask.astype(bool))


def test_left_out_where_the_model_has_no_use_for_them(labels, mapper_of) -> None:
    dicts, mapper = mapper_of(labels)
    assert set(mapper(dicts[0])["instances"].get_fields()) == {"gt_boxes", "gt_classes"}


@pytest.mark.parametrize(
    ("field", "key"), [("segmentation", "MODEL.MASK_ON"), ("keypoints", "MODEL.KEYPOINT_ON")]
)
def test_an_annotation_without_them_is_named(labels, mapper_of, field: str, key: str) -> None:
    del labels["annotations"][1][field]
    dicts, mapper = mapper_of(labels, **{key: True})
    with pytest.raises(ValueError, match=rf"1 annotations of .*000000\.jpg have no '{field}'"):
        mapper(dicts[0])
    assert len(mapper(dicts[1])["instances"]) == 1
