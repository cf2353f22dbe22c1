import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN
from torch import nn
from toy_models import build, make_video, tiny_cfg, window_sample

from iff_detectron2 import add_iff_config
from iff_detectron2.modeling import VideoRetinaNet, make_video_arch


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


def test_registered_name():
    assert issubclass(META_ARCH_REGISTRY.get("VideoGeneralizedRCNN"), GeneralizedRCNN)
