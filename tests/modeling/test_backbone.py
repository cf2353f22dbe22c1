import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import build_backbone
from torch import nn
from toy_models import CONFIGS, tiny_cfg

from iff_detectron2.engine import load_config
from iff_detectron2.modeling.backbone import DeformableBottleneckBlock


def small_bottleneck_cfg(*opts):
    return tiny_cfg("MODEL.DILATED_RESNET.NUM_BLOCKS", "[3,4,6,3]", *opts)


def test_res5_equals_detectron2s_dilated_resnet():
    cfg = small_bottleneck_cfg("MODEL.DILATED_RESNET.OUTPUT_STRIDE", 16)
    ours = build_backbone(cfg).eval()
    reference_cfg = get_cfg()
    reference_cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    reference_cfg.MODEL.RESNETS.merge_from_other_cfg(cfg.MODEL.RESNETS)
    reference_cfg.MODEL.RESNETS.RES5_DILATION = 2
    reference_cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    reference_cfg.MODEL.BACKBONE.FREEZE_AT = 0
    reference = build_backbone(reference_cfg).eval()
    missing, unexpected = ours.load_state_dict(reference.state_dict(), strict=False)
    assert set(missing) == {"reduction.weight", "reduction.bias"}
    assert not unexpected
    x = torch.randn(1, 3, 65, 97)
    captured = []
    ours.reduction.register_forward_pre_hook(lambda module, args: captured.append(args[0]))
    out = ours(x)["reduction"]
    torch.testing.assert_close(captured[0], reference(x)["res5"])
    assert out.shape == (1, 32, 5, 7)


@pytest.mark.parametrize(
    ("stride", "size"), [(32, (3, 4)), (16, (5, 7)), (8, (9, 13)), (4, (17, 25))]
)
def test_output_stride(stride, size):
    backbone = build_backbone(tiny_cfg("MODEL.DILATED_RESNET.OUTPUT_STRIDE", stride))
    assert backbone(torch.zeros(1, 3, 65, 97))["reduction"].shape[-2:] == size
    assert backbone.output_shape() == {"reduction": ShapeSpec(channels=32, stride=stride)}


def test_paper_backbone_from_its_modules():
    cfg = load_config(str(CONFIGS / "ImageNetVID/iff_net_C_R_101.yaml"))
    backbone = build_backbone(cfg)
    assert [len(stage) for stage in backbone.stages] == [3, 4, 23, 3]
    assert {block.conv2.dilation for block in backbone.res5} == {(2, 2)}
    assert {block.conv2.dilation for block in backbone.res4} == {(1, 1)}
    assert all(block.conv1.stride == (1, 1) for block in backbone.res5)
    assert backbone.res4[0].conv1.stride == (2, 2)
    reduction = backbone.reduction
    assert (reduction.out_channels, reduction.kernel_size) == (1024, (3, 3))
    assert (reduction.dilation, reduction.padding) == ((6, 6), (6, 6))
    assert reduction.weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert not reduction.bias.any()
    trainable = {n.split(".")[0] for n, p in backbone.named_parameters() if p.requires_grad}
    assert trainable == {"res3", "res4", "res5", "reduction"}
    assert not [n for n, p in backbone.named_parameters() if p.requires_grad and "norm" in n]


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("MODEL.DILATED_RESNET.OUTPUT_STRIDE", 12), "OUTPUT_STRIDE"),
        (("MODEL.DILATED_RESNET.NUM_BLOCKS", "[1,2]"), "NUM_BLOCKS"),
        (("MODEL.DILATED_RESNET.DEFORM_BLOCKS", "[0,0,0,2]"), "DEFORM_BLOCKS"),
        (("MODEL.DILATED_RESNET.DEFORM_BLOCKS", "[1]"), "DEFORM_BLOCKS"),
        (
            (
                *("MODEL.DILATED_RESNET.DEFORM_BLOCKS", "[0,0,0,1]"),
                *("MODEL.RESNETS.DEFORM_NUM_GROUPS", 3),
            ),
            "DEFORM_NUM_GROUPS",
        ),
        (("MODEL.DILATED_RESNET.NUM_BLOCKS", "[]", "MODEL.RESNETS.DEPTH", 18), "DEPTH"),
    ],
)
def test_wrong_values_name_their_key(opts, message):
    with pytest.raises(ValueError, match=message):
        build_backbone(tiny_cfg(*opts))


@pytest.mark.parametrize("deform", ["[0,0,0,3]", "[0,0,3,3]"])
def test_deformable_blocks_start_as_the_plain_ones(deform):
    """The plain weights load by their names, and the offsets that are new start at zero."""
    opts = ("MODEL.DILATED_RESNET.OUTPUT_STRIDE", 16, "MODEL.RESNETS.DEFORM_NUM_GROUPS", 4)
    plain = build_backbone(small_bottleneck_cfg(*opts)).double().eval()
    deformable = build_backbone(
        small_bottleneck_cfg(*opts, "MODEL.DILATED_RESNET.DEFORM_BLOCKS", deform)
    )
    deformable.double().eval()
    blocks = [m for m in deformable.modules() if isinstance(m, DeformableBottleneckBlock)]
    assert [b.conv2_offset.out_channels for b in blocks] == [72] * (deform.count("3") * 3)
    missing, unexpected = deformable.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[-2] for name in missing} == {"conv2_offset"}
    assert len(missing) == 2 * len(blocks)
    x = torch.randn(1, 3, 65, 97, dtype=torch.float64)
    expected = plain(x)["reduction"]
    torch.testing.assert_close(deformable(x)["reduction"], expected, rtol=1e-12, atol=1e-12)
    nn.init.normal_(blocks[-1].conv2_offset.bias)
    assert not torch.allclose(deformable(x)["reduction"], expected, rtol=1e-3)


def test_deformable_blocks_are_the_last_of_their_stage():
    cfg = load_config(
        str(CONFIGS / "ImageNetVID/iff_net_C_R_101.yaml"),
        ["MODEL.DILATED_RESNET.DEFORM_BLOCKS", "[0,0,3,3]"],
    )
    backbone = build_backbone(cfg)
    where = [n for n, m in backbone.named_modules() if isinstance(m, DeformableBottleneckBlock)]
    assert where == ["res4.20", "res4.21", "res4.22", "res5.0", "res5.1", "res5.2"]
    for name in where:
        block = backbone.get_submodule(name)
        assert isinstance(block.conv2.norm, FrozenBatchNorm2d)
        assert block.conv2.dilation == block.conv2_offset.dilation
        assert all(p.requires_grad for p in block.conv2_offset.parameters())
        assert not any(p.any() for p in block.conv2_offset.parameters())
