import copy

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from detectron2.structures import ImageList
from torch import nn
from toy_models import build, make_video, tiny_cfg, window_sample

from iff_detectron2 import add_iff_config
from iff_detectron2.modeling import (
    AverageAggregator,
    TemporalAggregation,
    VideoRetinaNet,
    make_video_arch,
)
from iff_detectron2.structures import TemporalWindow


@pytest.fixture(scope="module")
def plain_and_video():
    plain = build(tiny_cfg("MODEL.META_ARCHITECTURE", "GeneralizedRCNN"), seed=1)
    video = build(tiny_cfg("TEST.VIDEO.STREAMING", False), seed=2)
    return plain, video


def test_a_plain_checkpoint_loads_and_only_temporal_keys_are_missing(plain_and_video):
    plain, video = plain_and_video
    missing, unexpected = video.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert missing
    assert all(name.startswith("temporal.") for name in missing)
    missing, unexpected = plain.load_state_dict(video.state_dict(), strict=False)
    assert not missing
    assert all(name.startswith("temporal.") for name in unexpected)


@pytest.mark.parametrize("flow", ["BasicIFF", "AdvancedIFF"])
@pytest.mark.parametrize("streaming", [True, False])
def test_static_clip_with_zero_flow_gives_the_plain_output(plain_and_video, flow, streaming):
    plain, _ = plain_and_video
    video = build(tiny_cfg("MODEL.IFF.FLOW.NAME", flow, "TEST.VIDEO.STREAMING", streaming))
    video.load_state_dict(plain.state_dict(), strict=False)
    clip = make_video(1) * 5
    sample = window_sample(clip, 0, (-2, -1, 1, 2), streaming_from=0 if streaming else None)
    with torch.no_grad():
        expected = plain([{"image": clip[0]}])[0]["instances"]
        got = video([sample])[0]["instances"]
    assert len(expected) > 10
    assert len(got) == len(expected)
    torch.testing.assert_close(got.scores, expected.scores, rtol=0, atol=1e-5)
    torch.testing.assert_close(got.pred_boxes.tensor, expected.pred_boxes.tensor, rtol=0, atol=1e-3)


def test_a_one_stage_detector_on_a_feature_pyramid_becomes_temporal():
    """Some levels are aggregated, the others pass; static and still, it is the plain detector."""
    cfg = get_cfg()
    add_iff_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.IFF.IN_FEATURES = ["p3", "p5"]
    cfg.MODEL.IFF.FLOW.CHANNELS = cfg.MODEL.IFF.EMBEDDING.HIDDEN_CHANNELS = 16
    cfg.TEST.VIDEO.NUM_REFS = 4
    plain = build(cfg)
    cfg.MODEL.META_ARCHITECTURE = "VideoRetinaNet"
    video = build(cfg)
    assert type(video) is VideoRetinaNet
    assert list(video.temporal.aggregators) == ["p3", "p5"]
    missing, unexpected = video.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("temporal.") for name in missing)
    clip = make_video(1) * 4
    with torch.no_grad():
        expected = plain([{"image": clip[0]}])[0]["instances"]
        for t in range(4):  # the last two windows bring no new frame
            sample = window_sample(clip, t, (-2, -1, 1, 2), streaming_from=max(t - 1, 0))
            got = video([sample])[0]["instances"]
            assert len(got) == len(expected) > 0
            torch.testing.assert_close(got.scores, expected.scores, rtol=0, atol=1e-5)


def test_a_class_without_the_seam_is_refused():
    class Plain(nn.Module):
        pass

    with pytest.raises(TypeError, match="Plain cannot be made a video detector"):
        make_video_arch(Plain)


@pytest.fixture
def unregister():
    """Take out the classes that a test registers."""
    before = set(META_ARCH_REGISTRY._obj_map)
    yield
    for name in set(META_ARCH_REGISTRY._obj_map) - before:
        del META_ARCH_REGISTRY._obj_map[name]


class Inline(nn.Module):
    """A third party's class: it normalises in `forward` and cannot be built from a config."""

    def __init__(self, *, backbone):
        super().__init__()
        self.backbone = backbone
        self.register_buffer("pixel_mean", torch.full((3, 1, 1), 100.0))
        self.register_buffer("pixel_std", torch.full((3, 1, 1), 50.0))

    def forward(self, batched_inputs):
        images = [(x["image"] - self.pixel_mean) / self.pixel_std for x in batched_inputs]
        images = ImageList.from_tensors(images, 8)
        features = self.backbone(images.tensor)["map"]
        assert len(features) == len(batched_inputs)
        return [{"map": x, "size": s} for x, s in zip(features, images.image_sizes, strict=True)]


class Backbone(nn.Module):
    size_divisibility = 8

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, stride=8)

    def forward(self, images):
        return {"map": self.conv(images)}


def temporal(num_refs=2) -> TemporalAggregation:
    return TemporalAggregation(
        aggregators={"map": AverageAggregator()}, window=TemporalWindow(num_refs)
    )


def test_a_detector_that_normalises_inside_forward(unregister):
    torch.manual_seed(0)
    cls = make_video_arch(Inline)
    assert META_ARCH_REGISTRY.get("VideoInline") is cls
    video = cls(backbone=Backbone(), temporal=temporal()).eval()
    plain = Inline(backbone=video.backbone)
    clip = make_video(3, 21, 30)
    with torch.no_grad():
        alone = [plain([{"image": image}])[0]["map"] for image in clip]
        for t in range(3):  # the last window brings no new frame
            (got,) = video([window_sample(clip, t, (-1, 1), streaming_from=max(t - 1, 0))])
            window = [max(t - 1, 0), t, min(t + 1, 2)]
            torch.testing.assert_close(got["map"], torch.stack([alone[i] for i in window]).mean(0))
            assert tuple(got["size"]) == (21, 30)
        # Frames of different sizes are padded to one batch.
        small = make_video(1, 13, 17)[0]
        got = video([{"image": clip[0]}, {"image": small}])
        torch.testing.assert_close(got[0]["map"], alone[0])
        assert tuple(got[1]["size"]) == (13, 17)


def test_frames_ahead_of_such_a_detector(unregister):
    """What a predictor shows it before its turn counts as what comes with a sample."""
    video = make_video_arch(Inline)(backbone=Backbone(), temporal=temporal()).eval()
    clip = make_video(2, 21, 30)
    with torch.no_grad():
        (expected,) = video([window_sample(clip, 0, (-1, 1), streaming_from=0)])
        video.reset()
        ahead = window_sample(clip, 1, ())
        video.observe(ahead)
        (got,) = video([window_sample(clip, 0, ())])
    torch.testing.assert_close(got["map"], expected["map"])


def test_a_copy_of_such_a_detector_is_on_its_own(unregister):
    video = make_video_arch(Inline)(backbone=Backbone(), temporal=temporal(0)).eval()
    other = copy.deepcopy(video)
    with torch.no_grad():
        for parameter in video.parameters():
            parameter.zero_()
        sample = {"image": make_video(1, 16, 16)[0]}
        assert other([sample])[0]["map"].abs().max() > 0
        assert video([sample])[0]["map"].abs().max() == 0


def test_a_missing_backbone_is_named_when_it_is_built(unregister):
    class Bare(Inline):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            del self.backbone

    with pytest.raises(TypeError, match="Bare cannot be made a video detector: no backbone"):
        make_video_arch(Bare)(backbone=Backbone(), temporal=temporal())


def test_registered_name():
    assert issubclass(META_ARCH_REGISTRY.get("VideoGeneralizedRCNN"), GeneralizedRCNN)
