"""FlowNetS as part of a model; that it computes FlowNetS is tested in engine/test_convert.py."""

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn
from toy_models import build, make_video, tiny_cfg, training_sample, window_sample

from iff_detectron2.engine import VideoCheckpointer, VideoTrainer
from iff_detectron2.modeling import FlowNetS

FLOWNET = ("MODEL.IFF.FLOW.NAME", "FlowNetS", "MODEL.IFF.TRL.ENABLED", False)
UNIT_STD = [1.0, 1.0, 1.0]


def make(stride=16, pixel_std=UNIT_STD, channels=8, **kwargs):
    torch.manual_seed(0)
    estimator = FlowNetS(stride=stride, pixel_std=pixel_std, channels=channels, **kwargs)
    nn.init.normal_(estimator.flow2.weight, std=0.1)
    return estimator.double()


def features_of(images, stride):
    return torch.zeros(len(images), 2, *(-(-side // stride) for side in images.shape[-2:]))


def test_layers_of_the_paper():
    """Kernel, stride, input and output channels of each layer, as FGFA configures them."""
    got = {
        name: (m.kernel_size[0], m.stride[0], m.in_channels, m.out_channels)
        for name, m in FlowNetS(stride=16, pixel_std=UNIT_STD).named_modules()
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))
    }
    assert got == {
        "conv1": (7, 2, 6, 64),
        "conv2": (5, 2, 64, 128),
        "conv3": (5, 2, 128, 256),
        "conv3_1": (3, 1, 256, 256),
        "conv4": (3, 2, 256, 512),
        "conv4_1": (3, 1, 512, 512),
        "conv5": (3, 2, 512, 512),
        "conv5_1": (3, 1, 512, 512),
        "conv6": (3, 2, 512, 1024),
        "conv6_1": (3, 1, 1024, 1024),
        "flow6": (3, 1, 1024, 2),
        "deconv5": (4, 2, 1024, 512),
        "upflow5": (4, 2, 2, 2),
        "flow5": (3, 1, 1026, 2),
        "deconv4": (4, 2, 1026, 256),
        "upflow4": (4, 2, 2, 2),
        "flow4": (3, 1, 770, 2),
        "deconv3": (4, 2, 770, 128),
        "upflow3": (4, 2, 2, 2),
        "flow3": (3, 1, 386, 2),
        "deconv2": (4, 2, 386, 64),
        "upflow2": (4, 2, 2, 2),
        "flow2": (3, 1, 194, 2),
    }


@pytest.mark.parametrize("stride", [4, 8, 16, 32, 64])
@pytest.mark.parametrize("size", [(97, 131), (128, 64), (1, 1)])
def test_flow_has_the_size_of_the_features(stride, size):
    estimator = make(stride)
    images = torch.randn(3, 3, *size, dtype=torch.float64)
    features = features_of(images, stride)
    codes = estimator.encode(features, images)
    assert codes.shape == (3, 3, (size[0] + 1) // 2, (size[1] + 1) // 2)
    assert estimator(codes[:1], codes[1:]).shape == (2, 2, *features.shape[-2:])
    assert estimator(codes[:1], codes[:0]).shape == (0, 2, *features.shape[-2:])


def test_other_strides_are_the_same_motion_in_other_cells():
    images = torch.randn(2, 3, 128, 192, dtype=torch.float64)
    pixels = {}
    for stride in (4, 8):
        estimator = make(stride)
        codes = estimator.encode(features_of(images, stride), images)
        pixels[stride] = estimator(codes[:1], codes[1:]) * stride
    # The fine flow, in pixels, lies between the coarse cells around it.
    fine, coarse = pixels[4], pixels[8]
    between = 0.75 * coarse[..., 3, 5] + 0.25 * coarse[..., 3, 6]
    below = 0.75 * coarse[..., 4, 5] + 0.25 * coarse[..., 4, 6]
    torch.testing.assert_close(fine[..., 7, 11], 0.75 * between + 0.25 * below)


@pytest.mark.parametrize("flip", [False, True])
def test_images_are_brought_to_flownets_range_and_order(flip):
    estimator = make(pixel_std=[50.0, 60.0, 70.0], flip_channels=flip)
    pixels = torch.randint(-120, 130, (1, 3, 32, 32)).double()  # less their mean
    std = torch.tensor([50.0, 60.0, 70.0], dtype=torch.float64).view(1, 3, 1, 1)
    got = estimator.encode(features_of(pixels, 16), pixels / std)
    blocks = pixels.reshape(1, 3, 16, 2, 16, 2).mean((3, 5)) / 255
    expected = blocks[:, [2, 1, 0]] if flip else blocks
    torch.testing.assert_close(got, expected)


def test_sizes_that_do_not_belong_together_are_an_error():
    images = torch.zeros(1, 3, 97, 131, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"features \(6, 9\).*FlowNetS is \(7, 9\)"):
        make().encode(torch.zeros(1, 2, 6, 9), images)


@pytest.mark.parametrize("kwargs", [{"stride": 2}, {"channels": 12}])
def test_what_cannot_be_built_is_refused(kwargs):
    with pytest.raises(ValueError, match=r"stride 4, 8|FLOW\.CHANNELS"):
        make(**kwargs)


@pytest.fixture(params=[False, True], ids=["trained", "frozen"])
def frozen(request):
    return request.param


def test_the_model_trains_it_or_not(frozen):
    """OptFlow-B and OptFlow-A: frozen, no gradient and no step of the optimizer touches it."""
    cfg = tiny_cfg(*FLOWNET, "MODEL.IFF.FLOW.FREEZE", frozen, "SOLVER.BASE_LR", 0.01)
    model = build(cfg)
    nn.init.normal_(model.temporal.aggregators["reduction"].flow_estimator.flow2.weight, std=0.1)
    model.train()
    assert model.input_format == "BGR"
    estimator = model.temporal.aggregators["reduction"].flow_estimator
    assert estimator.flip_channels
    assert {p.requires_grad for p in estimator.parameters()} == {not frozen}
    optimizer = VideoTrainer.build_optimizer(cfg, model)
    optimised = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert all((id(p) in optimised) != frozen for p in estimator.parameters())
    before = {name: value.clone() for name, value in estimator.state_dict().items()}
    sample = training_sample(make_video(3), 1, (-1, 1), [(10, 10, 60, 50)], [0])
    with EventStorage():
        losses = model([sample])
    assert model.temporal.aggregators["reduction"].training
    sum(losses.values()).backward()
    optimizer.step()
    changed = {
        n for n, value in estimator.state_dict().items() if not torch.equal(value, before[n])
    }
    assert changed == (set() if frozen else set(before))
    assert {p.grad is None for p in estimator.parameters()} == {frozen}


def test_it_streams_as_it_recomputes():
    models = [build(tiny_cfg(*FLOWNET, "TEST.VIDEO.STREAMING", s)) for s in (True, False)]
    for model in models:
        torch.manual_seed(3)
        flow = model.temporal.aggregators["reduction"].flow_estimator.flow2
        nn.init.normal_(flow.weight, std=0.1)
    video = make_video(4)
    with torch.no_grad():
        for t in range(4):
            offsets = models[0].temporal.window.offsets
            stream = window_sample(video, t, offsets, streaming_from=max(t - 1, 0))
            a = models[0]([stream])[0]["instances"]
            b = models[1]([window_sample(video, t, offsets)])[0]["instances"]
            torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=1e-5)
            flows = [m.temporal.last[0].levels["reduction"].flow for m in models]
            assert flows[0].abs().max() > 1e-3
            torch.testing.assert_close(*flows)


def test_a_checkpoint_without_the_frozen_weights_is_refused(tmp_path, frozen):
    plain = build(tiny_cfg("MODEL.META_ARCHITECTURE", "GeneralizedRCNN"))
    path = tmp_path / "plain.pth"
    torch.save({"model": plain.state_dict()}, path)
    model = build(tiny_cfg(*FLOWNET, "MODEL.IFF.FLOW.FREEZE", frozen))
    if not frozen:
        VideoCheckpointer(model).load(str(path))
        return
    with pytest.raises(ValueError, match=r"MODEL\.IFF\.FLOW\.FREEZE .* lacks .*flow_estimator"):
        VideoCheckpointer(model).load(str(path))
