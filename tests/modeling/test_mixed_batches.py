"""Key frames that share a batch are trained as if each had a batch of its own."""

import pytest
import torch
from detectron2.utils.events import EventStorage
from toy_models import build, make_video, randomise_flow, tiny_cfg, training_sample

# All anchors and all regions count, so that nothing is drawn at random. The images are padded to
# one size whatever their batch, since convolutions read the padding.
SETTINGS = [
    *("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.RPN.BATCH_SIZE_PER_IMAGE", 100_000),
    *("MODEL.RFCN.OHEM_TOPK", 0, "MODEL.RPN.POST_NMS_TOPK_TRAIN", 40),
]
PADDED = 128


def still(image, boxes, classes):
    sample = training_sample([image], 0, (), boxes, classes)
    for key in ("video_id", "frame_index", "video_length", "ref_images", "ref_offsets"):
        del sample[key]
    return sample


@pytest.fixture(scope="module")
def samples():
    """Two sizes and orientations; two references, one, the frame itself, none; no object in one."""
    wide, high = make_video(4, 65, 97, seed=1), make_video(4, 90, 60, seed=2)
    box, two = [(10.0, 10.0, 55.0, 50.0)], [(5.0, 20.0, 40.0, 60.0), (20.0, 8.0, 55.0, 60.0)]
    return [
        training_sample(wide, 2, (-2, 1), box, [0]),
        training_sample(high, 1, (2,), two, [3, 1]),
        still(wide[3], box, [2]),
        training_sample(high, 0, (0, 0), box, [1]),
        training_sample(wide, 0, (1, 3, 2), [], []),
    ]


@pytest.mark.parametrize(
    "opts",
    [(), ("MODEL.IFF.AGGREGATOR", "DeformableAggregator"), ("MODEL.IFF.FLOW.NAME", "BasicIFF")],
    ids=["advanced", "deformable", "basic"],
)
def test_the_losses_of_a_mixed_batch_are_the_mean_of_single_ones(samples, opts):
    model = build(tiny_cfg(*SETTINGS, *opts)).train()
    randomise_flow(model, scale=0.05)
    type(model.backbone).size_divisibility = property(lambda self: PADDED)
    try:
        with EventStorage(), torch.no_grad():
            together = model(samples)
            alone = [model([sample]) for sample in samples]
    finally:
        del type(model.backbone).size_divisibility
    for name, loss in together.items():
        values = torch.stack([losses[name] for losses in alone])
        torch.testing.assert_close(loss, values.mean(), rtol=1e-4, atol=1e-5, msg=name)
    # They differ from one another, or a mean would say nothing.
    for name in ("loss_cls", "loss_rpn_cls"):
        assert torch.stack([losses[name] for losses in alone]).std() > 1e-4
