import pytest
import torch
from torch import nn
from torch.nn import functional as F

from iff_detectron2.layers import DeformConv2d

SHAPES = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 3, "padding": 1, "stride": 2},
    {"kernel_size": 1, "bias": False},
]


def make(shape, dtype=torch.float64, integers=False):
    torch.manual_seed(0)
    conv = DeformConv2d(8, 6, **shape).to(dtype)
    x = torch.randn(2, 8, 9, 13, dtype=dtype)
    if integers:
        x = torch.randint(-8, 9, x.shape).to(dtype)
        for parameter in conv.parameters():
            parameter.data = torch.randint(-8, 9, parameter.shape).to(dtype)
    return conv, x, nn.Conv2d.forward(conv, x)


def zero_offset(conv, plain, groups=1):
    return plain.new_zeros(len(plain), conv.offset_channels(groups), *plain.shape[-2:])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("groups", [1, 4])
def test_zero_offsets_are_the_plain_convolution_bit_by_bit(shape, groups):
    """On whole numbers float32 sums are exact in any order: not one sample may be interpolated."""
    conv, x, plain = make(shape, torch.float32, integers=True)
    assert torch.equal(conv(x, zero_offset(conv, plain, groups)), plain)


@pytest.mark.parametrize("shape", SHAPES)
def test_zero_offsets_are_the_plain_convolution_up_to_the_order_of_the_sum(shape):
    conv, x, plain = make(shape)
    torch.testing.assert_close(conv(x, zero_offset(conv, plain)), plain, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients_at_zero_offsets_are_those_of_the_plain_convolution(shape):
    conv, x, plain = make(shape)
    x.requires_grad_()
    plain = nn.Conv2d.forward(conv, x)
    weights = torch.randn_like(plain)
    inputs = (x, *conv.parameters())
    expected = torch.autograd.grad((weights * plain).sum(), inputs)
    got = torch.autograd.grad((weights * conv(x, zero_offset(conv, plain))).sum(), inputs)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_every_tap_reads_where_its_offset_says():
    """By hand: bilinear sampling of the zero-padded map, rows of the kernel first, dy before dx."""
    conv, x, _ = make({"kernel_size": 3, "padding": 1, "bias": False})
    offset = 2.5 * torch.randn(2, 2, 9, 2, 9, 13, dtype=torch.float64)  # 2 groups, taps, (dy, dx)
    groups = []
    grid_y, grid_x = torch.meshgrid(torch.arange(9.0), torch.arange(13.0), indexing="ij")
    for group in range(2):
        total = 0
        channels = slice(4 * group, 4 * group + 4)
        for tap in range(9):
            ky, kx = divmod(tap, 3)
            y = grid_y + ky - 1 + offset[:, group, tap, 0]
            x_at = grid_x + kx - 1 + offset[:, group, tap, 1]
            grid = torch.stack((2 * x_at / 12 - 1, 2 * y / 8 - 1), -1)
            sampled = F.grid_sample(x[:, channels], grid, align_corners=True)
            total = total + torch.einsum("oc,nchw->nohw", conv.weight[:, channels, ky, kx], sampled)
        groups.append(total)
    torch.testing.assert_close(conv(x, offset.flatten(1, 3)), groups[0] + groups[1])


def test_offsets_learn():
    conv, x, plain = make(SHAPES[0])
    offset = zero_offset(conv, plain).requires_grad_()
    conv(x, offset).square().sum().backward()
    assert offset.grad.abs().sum() > 0


def test_no_images():
    conv, x, plain = make(SHAPES[0])
    assert conv(x[:0], zero_offset(conv, plain)[:0]).shape == (0, *plain.shape[1:])


def test_padding_by_name_is_refused():
    with pytest.raises(ValueError, match="pads by a number of zeros"):
        DeformConv2d(2, 2, 3, padding="same")


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_smaller_types_are_summed_in_float32(kind):
    conv, x, plain = make(SHAPES[0], torch.float32)
    offset = 0.3 * torch.randn_like(zero_offset(conv, plain))
    x, offset = x.to(kind), offset.to(kind)
    expected = conv(x.float(), offset.float())
    with torch.autocast("cpu", kind):
        got = conv(x, offset)
    assert got.dtype == kind
    assert torch.equal(got, expected.to(kind))
    got.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in conv.parameters())
