"""All frames of a clip are augmented by one draw, each with its own pixels."""

import random

import numpy as np
import pytest
from detectron2.data import transforms as T
from fvcore.transforms.transform import BlendTransform, NoOpTransform

from iff_detectron2.data.clip_transforms import ClipTransforms


def frames(count=3, height=24, width=32):
    return list(np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8))


def augment(augmentations, images, seed=5):
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    clip = T.AugInput(images[0])
    transforms = ClipTransforms(T.AugmentationList(augmentations), clip)
    drawn_next = np.random.uniform()  # noqa: NPY002
    results = [clip.image, *(transforms.apply(image) for image in images[1:])]
    assert np.random.uniform() != drawn_next  # noqa: NPY002
    return results, drawn_next, transforms


def saturated(image, weight):
    """Blend of an RGB image with its grey self, by hand."""
    grey = image.astype(float) @ np.array([0.299, 0.587, 0.114])
    return np.clip((1 - weight) * grey[..., None] + weight * image, 0, 255).astype(np.uint8)


def test_saturation_blends_each_frame_with_its_own_grey():
    images = frames()
    results, _, _ = augment([T.RandomSaturation(0.2, 0.8)], images)
    np.random.seed(5)  # noqa: NPY002
    weight = np.random.uniform(0.2, 0.8)  # noqa: NPY002
    for image, result in zip(images, results, strict=True):
        np.testing.assert_array_equal(result, saturated(image, weight))


def test_a_blue_frame_gets_nothing_of_the_key_frames_pattern():
    blue = np.full((24, 32, 3), (0, 0, 200), np.uint8)
    (_, result), _, _ = augment([T.RandomSaturation(0.3, 0.3)], [frames(1)[0], blue])
    assert (result == result[0, 0]).all()


@pytest.mark.parametrize(
    "augmentations",
    [
        [T.RandomFlip(prob=0.5), T.RandomSaturation(0.2, 0.8), T.ResizeShortestEdge([30, 40])],
        [
            T.RandomApply(T.RandomSaturation(0.2, 0.8), prob=0.7),
            T.RandomCrop("relative", (0.5, 0.5)),
        ],
        [T.AugmentationList([T.RandomFlip(), T.RandomSaturation(0.2, 0.8)]), T.RandomLighting(40)],
        [T.RandomBrightness(0.5, 1.5), T.RandomContrast(0.5, 1.5), T.RandomRotation([-20, 20])],
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_equal_frames_stay_equal_and_the_next_draw_is_the_same(augmentations, seed):
    image = frames(1)[0]
    results, drawn_next, transforms = augment(augmentations, [image.copy() for _ in range(3)], seed)
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    # What is drawn for the next sample does not depend on the number of frames.
    _, alone, _ = augment(augmentations, [image.copy()], seed)
    assert alone == drawn_next
    box = transforms.list.apply_box(np.array([[2.0, 3.0, 20.0, 15.0]]))
    assert np.isfinite(box).all()


class Overlay(T.Augmentation):
    """Blends every frame with its own mirror image, or with nothing, as Python's generator says."""

    def get_transform(self, image):
        if random.random() < 0.3:
            return NoOpTransform()
        return BlendTransform(src_image=image[:, ::-1].copy(), src_weight=0.5, dst_weight=0.5)


@pytest.mark.parametrize("seed", range(6))
def test_augmentations_of_a_users_own_are_made_per_frame(seed):
    images = frames()
    results, _, _ = augment([Overlay()], images, seed)
    random.seed(seed)
    skipped = random.random() < 0.3
    for image, result in zip(images, results, strict=True):
        mean = (0.5 * image[:, ::-1] + 0.5 * image.astype(np.float32)).astype(np.uint8)
        np.testing.assert_array_equal(result, image if skipped else mean)
