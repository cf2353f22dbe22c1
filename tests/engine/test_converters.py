"""Public weights under our names compute what they compute under their own."""

import copy

import numpy as np
import pytest
import torch
import torchvision
from detectron2.modeling import build_backbone
from torch import nn
from torch.nn import functional as F
from toy_models import CONFIGS

from iff_detectron2.engine import VideoCheckpointer, load_config
from iff_detectron2.engine.converters import convert_backbone, convert_flownet, read_weights
from iff_detectron2.modeling.flownet import FlowNetS
from iff_detectron2_cli.main import main

TORCHVISION = [
    *("MODEL.RESNETS.STRIDE_IN_1X1", False, "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""),
    *("MODEL.PIXEL_MEAN", "[123.675, 116.28, 103.53]"),
    *("MODEL.PIXEL_STD", "[58.395, 57.12, 57.375]", "INPUT.FORMAT", "RGB"),
]


@pytest.fixture(scope="module")
def resnet101():
    torch.manual_seed(0)
    model = torchvision.models.resnet101().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 0.6)
            nn.init.normal_(module.bias, std=0.1)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model


def test_torchvisions_resnet101_gives_its_own_features(resnet101, tmp_path):
    source, out = tmp_path / "resnet101.pth", tmp_path / "R_101.pth"
    torch.save(resnet101.state_dict(), source)
    assert main(["convert", "--backbone", str(source), str(out)]) == 0
    cfg = load_config(str(CONFIGS / "ImageNetVID/iff_net_C_R_101.yaml"), TORCHVISION)
    backbone = build_backbone(cfg).eval()
    holder = nn.ModuleDict({"backbone": backbone})
    incompatible = VideoCheckpointer(holder)._load_model(torch.load(out, weights_only=True))
    assert set(incompatible.missing_keys) == {
        *("backbone.reduction.weight", "backbone.reduction.bias")
    }
    assert not incompatible.unexpected_keys
    x = torch.randn(1, 3, 97, 131)
    theirs = copy.deepcopy(resnet101)
    with torch.no_grad():
        ours = backbone.stem(x)
        expected = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
        # Stages of the same shape; res5 is dilated here and strided there.
        for stage, layer in zip(
            backbone.stages[:3], (theirs.layer1, theirs.layer2, theirs.layer3), strict=True
        ):
            ours, expected = stage(ours), layer(expected)
            assert expected.std() > 1e-2
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
        # The blocks of res5 behind the first differ by their dilation alone.
        for block in theirs.layer4[1:]:
            block.conv2.dilation = block.conv2.padding = (2, 2)
        y = torch.randn(1, 2048, 7, 9)
        for block, other in zip(backbone.res5[1:], theirs.layer4[1:], strict=True):
            torch.testing.assert_close(block(y), other(y), rtol=1e-4, atol=1e-4)


def test_other_names_of_a_resnet(resnet101):
    ours = convert_backbone(resnet101.state_dict())
    assert convert_backbone({**ours, "fc.weight": torch.zeros(1)}).keys() == ours.keys()
    caffe = {
        "conv1_w": torch.full((1,), 1.0),
        "res_conv1_bn_s": torch.full((1,), 2.0),
        "res_conv1_bn_b": torch.full((1,), 3.0),
        "res2_0_branch2a_w": torch.full((1,), 4.0),
        "res2_0_branch2a_bn_s": torch.full((1,), 5.0),
        "res5_2_branch1_w": torch.full((1,), 6.0),
        "pred_w": torch.full((1,), 7.0),
    }
    assert {name: value.item() for name, value in convert_backbone(caffe).items()} == {
        "stem.conv1.weight": 1,
        "stem.conv1.norm.weight": 2,
        "stem.conv1.norm.bias": 3,
        "res2.0.conv1.weight": 4,
        "res2.0.conv1.norm.weight": 5,
        "res5.2.shortcut.weight": 6,
    }


def mxnet_names(weights):
    """Detectron2's names to those of FGFA's ResNet, letter by letter."""
    blocks = {2: "abc", 3: ["a", "b1", "b2", "b3"], 5: "abc"}
    blocks[4] = ["a", *(f"b{k}" for k in range(1, 23))]
    norms = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean"}
    norms["running_var"] = "moving_var"
    branches = {"shortcut": "1", "conv1": "2a", "conv2": "2b", "conv3": "2c"}
    named = {}
    for name, value in weights.items():
        parts = name.split(".")
        if parts[0] == "stem":
            place, kind = "conv1", "bn_"
        else:
            place = f"{parts[0][3]}{blocks[int(parts[0][3])][int(parts[1])]}"
            place, kind = f"{place}_branch{branches[parts[2]]}", "bn"
        if "norm" in parts:
            prefix = "aux" if parts[-1].startswith("running") else "arg"
            named[f"{prefix}:{kind}{place}_{norms[parts[-1]]}"] = value
        else:
            named[f"arg:{'' if parts[0] == 'stem' else 'res'}{place}_weight"] = value
    return named


def test_mxnets_resnet_of_fgfa(resnet101, tmp_path, capsys):
    ours = convert_backbone(resnet101.state_dict())
    named = mxnet_names(ours)
    assert {"arg:conv1_weight", "aux:bn_conv1_moving_mean", "arg:res4b22_branch2c_weight"} <= set(
        named
    )
    assert {"arg:bn2a_branch1_gamma", "arg:res5c_branch2b_weight"} <= set(named)
    np.savez(tmp_path / "fgfa.npz", **{name: value.numpy() for name, value in named.items()})
    out = tmp_path / "out.pth"
    assert main(["convert", "--backbone", str(tmp_path / "fgfa.npz"), str(out)]) == 0
    assert "INPUT.FORMAT RGB" in capsys.readouterr().out
    converted = torch.load(out, weights_only=True)["model"]
    assert converted.keys() == {f"backbone.{name}" for name in ours}
    assert all(torch.equal(converted[f"backbone.{name}"], value) for name, value in ours.items())


def test_the_backbone_of_a_detector_of_mmdetection(resnet101, tmp_path, capsys):
    path, out = tmp_path / "mmdet.pth", tmp_path / "out.pth"
    weights = {f"backbone.{k}": v for k, v in resnet101.state_dict().items() if "fc" not in k}
    weights["neck.lateral_convs.0.conv.weight"] = torch.zeros(1)
    # What such files also hold: numbers of numpy.
    meta = {"epoch": 12, "best": np.float64(0.374), "seen": np.int64(7), "lr": np.array([0.1, 0.2])}
    torch.save({"meta": meta, "state_dict": weights}, path)
    assert main(["convert", "--backbone", str(path), str(out)]) == 0
    said = capsys.readouterr().out
    assert "style='pytorch'" in said
    assert "style='caffe'" in said
    converted = torch.load(out, weights_only=True)["model"]
    ours = convert_backbone(resnet101.state_dict())
    assert converted.keys() == {f"backbone.{name}" for name in ours}
    assert all(torch.equal(converted[f"backbone.{name}"], value) for name, value in ours.items())


def test_mxnets_own_files_have_a_way(tmp_path, capsys):
    (tmp_path / "rfcn.params").write_bytes(b"\x12\x01")
    assert (
        main(["convert", "--flownet", str(tmp_path / "rfcn.params"), str(tmp_path / "x.pth")]) == 2
    )
    error = capsys.readouterr().err
    assert "mxnet.nd.load('rfcn.params').items()})" in error
    assert "numpy.savez('weights.npz', **{name: x.asnumpy()" in error


class PublicFlowNetS(nn.Module):
    """FlowNetS as PyTorch releases name and compute it, narrower."""

    def __init__(self, width=8, batch_norm=False):
        super().__init__()
        w = width

        def conv(a, b, k=3, s=1):
            layers = [nn.Conv2d(a, b, k, s, (k - 1) // 2, bias=not batch_norm)]
            layers += [nn.BatchNorm2d(b)] if batch_norm else []
            return nn.Sequential(*layers, nn.LeakyReLU(0.1))

        def deconv(a, b):
            return nn.Sequential(nn.ConvTranspose2d(a, b, 4, 2, 1, bias=False), nn.LeakyReLU(0.1))

        self.conv1, self.conv2 = conv(6, w, 7, 2), conv(w, 2 * w, 5, 2)
        self.conv3, self.conv3_1 = conv(2 * w, 4 * w, 5, 2), conv(4 * w, 4 * w)
        self.conv4, self.conv4_1 = conv(4 * w, 8 * w, s=2), conv(8 * w, 8 * w)
        self.conv5, self.conv5_1 = conv(8 * w, 8 * w, s=2), conv(8 * w, 8 * w)
        self.conv6, self.conv6_1 = conv(8 * w, 16 * w, s=2), conv(16 * w, 16 * w)
        widths = {6: 16 * w, 5: 16 * w + 2, 4: 12 * w + 2, 3: 6 * w + 2, 2: 3 * w + 2}
        for level, out in ((5, 8 * w), (4, 4 * w), (3, 2 * w), (2, w)):
            self.add_module(f"deconv{level}", deconv(widths[level + 1], out))
            up = nn.ConvTranspose2d(2, 2, 4, 2, 1, bias=False)
            self.add_module(f"upsampled_flow{level + 1}_to_{level}", up)
        for level, width in widths.items():
            self.add_module(f"predict_flow{level}", nn.Conv2d(width, 2, 3, padding=1, bias=False))

    def decoder_input(self, x):
        c2 = self.conv2(self.conv1(x))
        c3 = self.conv3_1(self.conv3(c2))
        c4 = self.conv4_1(self.conv4(c3))
        c5 = self.conv5_1(self.conv5(c4))
        x = self.conv6_1(self.conv6(c5))
        for level, skip in ((5, c5), (4, c4), (3, c3), (2, c2)):
            h, w = skip.shape[-2:]
            flow = getattr(self, f"predict_flow{level + 1}")(x)
            up = getattr(self, f"upsampled_flow{level + 1}_to_{level}")(flow)[:, :, :h, :w]
            x = torch.cat((skip, getattr(self, f"deconv{level}")(x)[:, :, :h, :w], up), 1)
        return x

    def forward(self, x):
        return self.predict_flow2(self.decoder_input(x))


def randomise(model):
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, std=0.2 if name.endswith("bias") else 0.1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.3, 3.0)
    return model.double().eval()


def fgfa_pair(key, ref):
    """Two images as FGFA hands them to FlowNet: / 255, concatenated, halved."""
    return F.avg_pool2d(torch.cat((key / 255, ref / 255), 1), 2, ceil_mode=True)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("size", [(64, 128), (97, 131)])
def test_public_flownets_predicts_the_same_flow(size, batch_norm, tmp_path):
    public = randomise(PublicFlowNetS(batch_norm=batch_norm))
    path = tmp_path / "flownets.pth.tar"
    torch.save({"arch": "flownets", "state_dict": public.state_dict(), "div_flow": 20}, path)
    converted = convert_flownet(read_weights(str(path)))
    images = 255 * torch.rand(3, 3, *size, dtype=torch.float64)
    for stride in (8, 16):
        cells = [-(-side // stride) for side in size]
        ours = FlowNetS(stride=stride, pixel_std=[1.0, 1.0, 1.0], channels=64).double().eval()
        ours.load_state_dict(converted)
        features = torch.zeros(3, 1, *cells)
        codes = ours.encode(features, images)
        got = ours(codes[:1], codes[1:])
        decoded = torch.cat(
            [public.decoder_input(fgfa_pair(images[:1], images[[j]])) for j in (1, 2)]
        )
        if stride == 16:  # FGFA pools what the last flow is read from, and multiplies by 2.5
            expected = public.predict_flow2(F.avg_pool2d(decoded, 2, ceil_mode=True)) * 2.5
        else:  # 20 pixels of the halved image are 5 cells of 8 pixels
            expected = public.predict_flow2(decoded) * 5
        assert got.shape == (2, 2, *cells)
        assert got.std() > 0.1
        torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-9)


def caffe_names(weights, separator, prefix="", first="conv1"):
    """Our names to those of the Caffe release, written out."""
    table = {f"flow{level}": f"Convolution{7 - level}" for level in (6, 5, 4, 3, 2)}
    table |= {f"upflow{a}": f"upsample_flow{a + 1}to{a}" for a in (5, 4, 3, 2)}
    table["conv1"] = first
    named = {}
    for name, value in weights.items():
        layer, part = name.split(".")
        named[f"{prefix}{table.get(layer, layer)}{separator}{part}"] = value
    return named


@pytest.mark.parametrize(
    "naming",
    [
        {"separator": "."},
        {"separator": "_"},
        {"separator": "_", "prefix": "arg:", "first": "flow_conv1"},
    ],
)
def test_names_of_caffe_and_fgfa(naming, tmp_path):
    weights = randomise(FlowNetS(stride=16, pixel_std=[1.0, 1.0, 1.0], channels=8)).state_dict()
    named = caffe_names(weights, **naming)
    if "first" in naming:
        named["arg:conv1_weight"] = torch.zeros(64, 3, 7, 7)  # the ResNet's
    path = tmp_path / "flownet.npz"
    np.savez(path, **{name: value.numpy() for name, value in named.items()})
    converted = convert_flownet(read_weights(str(path)))
    assert converted.keys() == weights.keys()
    assert all(torch.equal(converted[name], weights[name]) for name in weights)


def test_both_in_one_file(resnet101, tmp_path):
    backbone, flownet, out = (tmp_path / name for name in ("r.pth", "f.pth", "both.pth"))
    torch.save(resnet101.state_dict(), backbone)
    torch.save(PublicFlowNetS().state_dict(), flownet)
    args = ["convert", "--backbone", str(backbone), "--flownet", str(flownet), str(out)]
    assert main(args) == 0
    names = torch.load(out, weights_only=True)["model"].keys()
    assert "backbone.res5.2.conv3.norm.running_var" in names
    assert "temporal.aggregators.reduction.flow_estimator.upflow2.bias" in names
    assert not [n for n in names if "fc" in n or "num_batches" in n]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.zeros(1)}, "no weights of a ResNet"),
        ({"epoch": 3}, "holds no weights by name"),
        ([1], "holds list"),
    ],
)
def test_other_files_are_refused_with_one_sentence(content, message, tmp_path, capsys):
    path = tmp_path / "x.pth"
    torch.save(content, path)
    assert main(["convert", "--backbone", str(path), str(tmp_path / "out.pth")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out.pth").exists()


def test_a_missing_layer_is_named():
    weights = PublicFlowNetS().state_dict()
    del weights["deconv3.0.weight"]
    with pytest.raises(ValueError, match=r"deconv3\.0\.weight is missing"):
        convert_flownet(weights)


def test_objects_in_an_archive_are_not_unpickled(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.array([{"harmful": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_weights(str(path))
