"""ps_roi_pool against the R-FCN rule in exact fractions, its gradient, borders, bad arguments."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch

from iff_detectron2.layers import ps_roi_pool


def c_round(value):
    """C's round of a float: halves away from zero."""
    value = Fraction(value)
    return math.floor(value + Fraction(1, 2)) if value >= 0 else -math.floor(Fraction(1, 2) - value)


def reference(x, rois, k, scale):
    """Return the rule bin by bin and cell by cell; edges in exact fractions, sums in float64."""
    x = x.double()
    channels, (height, width) = x.shape[1] // k**2, x.shape[2:]
    scale = Fraction(scale)
    out = torch.zeros(len(rois), channels, k, k, dtype=torch.float64)
    for r, (image, x1, y1, x2, y2) in enumerate(rois.tolist()):
        left, top = c_round(x1) * scale, c_round(y1) * scale
        wide = max((c_round(x2) + 1) * scale - left, Fraction(0.1))
        high = max((c_round(y2) + 1) * scale - top, Fraction(0.1))
        for ph in range(k):
            for pw in range(k):
                first = max(math.floor(top + ph * high / k), 0)
                last = min(math.ceil(top + (ph + 1) * high / k), height)
                start = max(math.floor(left + pw * wide / k), 0)
                stop = min(math.ceil(left + (pw + 1) * wide / k), width)
                if first >= last or start >= stop:
                    continue
                for c in range(channels):
                    cells = x[int(image), (c * k + ph) * k + pw, first:last, start:stop]
                    out[r, c, ph, pw] = cells.mean()
    return out


def random_rois(count, batch, height, width, seed=0):
    """Boxes at sixteenths of a pixel, many over the image border, some inverted, some tiny."""
    generator = torch.Generator().manual_seed(seed)
    rois = torch.rand(count, 5, generator=generator)
    extent = torch.tensor([width, height, width, height]) * 16.0
    rois[:, 1:] = (rois[:, 1:] * 1.6 - 0.3) * extent
    rois[::5, 3:] = rois[::5, 1:3] + 3 * torch.rand(len(rois[::5]), 2, generator=generator)
    rois[:, 1:] = (rois[:, 1:] * 16).round() / 16
    rois[:, 0] = torch.randint(0, batch, (count,), generator=generator)
    return rois


@pytest.mark.parametrize(
    ("batch", "channels", "k", "height", "width"),
    [(2, 3, 7, 9, 13), (1, 1, 1, 4, 4), (1, 2, 3, 1, 1), (3, 2, 2, 12, 5), (1, 5, 7, 20, 28)],
)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.float16, 2e-3)]
)
def test_equals_the_rule(batch, channels, k, height, width, dtype, tolerance):
    x = torch.randn(batch, channels * k * k, height, width).to(dtype)
    rois = random_rois(25, batch, height, width)
    out = ps_roi_pool(x, rois, k, 1 / 16)
    assert out.dtype == dtype
    assert out.shape == (25, channels, k, k)
    expected = reference(x, rois, k, 1 / 16)
    torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)


def test_sums_keep_their_digits_on_a_large_map_far_from_zero():
    """A float32 table of 100 x 160 values near 1000 would lose about 1 in every small bin."""
    x = 1000 + torch.randn(1, 4, 100, 160)
    rois = torch.tensor([[0, 2500.0, 1550, 2559, 1599], [0, 16, 16, 47, 47]])
    out = ps_roi_pool(x, rois, 2, 1 / 16)
    torch.testing.assert_close(out.double(), reference(x, rois, 2, 1 / 16), rtol=2e-7, atol=0)


def test_whole_map_bins_and_channel_order():
    k = 3
    x = torch.arange(2 * k * k, dtype=torch.float32).view(1, -1, 1, 1).expand(1, 2 * k * k, 6, 6)
    out = ps_roi_pool(x, torch.tensor([[0.0, 0, 0, 95, 95]]), k, 1 / 16)
    assert torch.equal(out.flatten(), torch.arange(2.0 * k * k))


def test_last_row_and_column_are_read_and_receive_gradient():
    x = torch.zeros(1, 4, 4, 5, dtype=torch.float64)
    x[:, :, -1, :] = 1
    x[:, :, :, -1] = 1
    x.requires_grad_()
    out = ps_roi_pool(x, torch.tensor([[0.0, 64, 48, 79, 63]]), 2, 1 / 16)
    assert torch.equal(out, torch.ones_like(out))
    out.sum().backward()
    expected = torch.zeros(1, 4, 4, 5, dtype=torch.float64)
    expected[:, :, 3, 4] = 1
    assert torch.equal(x.grad, expected)


@pytest.mark.parametrize("first", [8.0, 0.0])
def test_bin_edges_on_cell_borders_take_no_extra_cell(first):
    """Both RoIs end at cell 29. As 7 * (width / 7) + start that end comes out above 29 in float32
    from pixel 8 and in float64 from pixel 0, and its ceil one cell too far.
    """
    x = torch.zeros(1, 49, 40, 40)
    x[:, :, 29:] = 1
    x[:, :, :, 29:] = 1
    out = ps_roi_pool(x, torch.tensor([[0.0, first, first, 463, 463]]), 7, 1 / 16)
    assert torch.equal(out, torch.zeros_like(out))


@pytest.mark.parametrize(
    ("coordinate", "cell"), [(7.4, 0), (7.5, 1), (8.5, 1), (-0.5, 0), (15.5, 2), (6.5, 0)]
)
def test_rounds_halves_away_from_zero(coordinate, cell):
    """At a scale of 1/8 a left edge of 7.5 is pixel 8, cell 1; -0.5 is pixel -1, clamped."""
    x = torch.arange(4.0).expand(1, 1, 4, 4)
    # One-cell RoI from the coordinate on; its first cell is the mean over floor ... ceil columns.
    out = ps_roi_pool(x, torch.tensor([[0, coordinate, 0, coordinate, 7]]), 1, 1 / 8)
    start = c_round(coordinate)
    first, last = max(start // 8, 0), -(-(start + 1) // 8)
    expected = torch.arange(4.0)[first:last]
    assert first == cell
    value = expected.mean() if len(expected) else torch.tensor(0.0)
    assert torch.equal(out.flatten()[0], value)


def test_smallest_roi_is_a_tenth_of_a_cell():
    """At scale 1/64 one pixel is 1/64 cell; 0.1 cells wide, it reaches over the border at 0.95."""
    x = torch.tensor([1.0, 3.0]).expand(1, 1, 2, 2)
    out = ps_roi_pool(x, torch.tensor([[0.0, 61, 0, 61, 0]]), 1, 1 / 64)
    assert out.item() == 2.0
    out = ps_roi_pool(x, torch.tensor([[0.0, 57, 0, 57, 0]]), 1, 1 / 64)
    assert out.item() == 1.0


def test_roi_outside_of_the_map_is_zero():
    x = torch.randn(1, 4, 5, 5)
    outside = [[0.0, 500, 0, 600, 70], [0, -300, -300, -200, -200], [0, 0, 90, 70, 95]]
    assert torch.equal(ps_roi_pool(x, torch.tensor(outside), 2, 1 / 16), torch.zeros(3, 1, 2, 2))
    far = torch.tensor([[0, -1e30, -1e30, 1e30, 1e30]])
    torch.testing.assert_close(
        ps_roi_pool(x[:, :1], far, 1, 1 / 16).flatten(), x[:, 0].mean().view(1)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradient_equals_the_gradient_of_the_rule(dtype):
    x = torch.randn(2, 18, 6, 7, dtype=dtype).requires_grad_()
    rois = random_rois(12, 2, 6, 7, seed=3)
    weights = torch.randn(12, 2, 3, 3, dtype=dtype)
    (grad,) = torch.autograd.grad(ps_roi_pool(x, rois, 3, 1 / 16), x, weights)
    (expected,) = torch.autograd.grad(reference(x, rois, 3, 1 / 16), x, weights.double())
    torch.testing.assert_close(grad, expected.to(dtype), rtol=1e-5, atol=1e-6)


def test_gradcheck():
    x = torch.randn(2, 8, 4, 5, dtype=torch.float64, requires_grad=True)
    rois = random_rois(6, 2, 4, 5)

    def run(a):
        return ps_roi_pool(a, rois, 2, 1 / 16)

    assert torch.autograd.gradcheck(run, (x,))


def test_no_rois():
    x = torch.randn(2, 49, 4, 5, requires_grad=True)
    out = ps_roi_pool(x, torch.zeros(0, 5), 7, 1 / 16)
    assert out.shape == (0, 1, 7, 7)
    out.sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_memory_format_and_strides_do_not_matter():
    x = torch.randn(2, 18, 6, 7)
    rois = random_rois(8, 2, 6, 7)
    expected = ps_roi_pool(x, rois, 3, 1 / 16)
    channels_last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(ps_roi_pool(channels_last, rois, 3, 1 / 16), expected)
    wide = torch.randn(2, 18, 6, 14)
    wide[..., ::2] = x
    assert torch.equal(ps_roi_pool(wide[..., ::2], rois, 3, 1 / 16), expected)


X, ROIS = torch.zeros(2, 8, 4, 4), torch.zeros(1, 5)


@pytest.mark.parametrize(
    ("args", "error", "match"),
    [
        ((X.int(), ROIS, 2, 0.5), TypeError, "int32"),
        ((X, ROIS, 2.0, 0.5), TypeError, "output_size.*2.0"),
        ((X, ROIS, 0, 0.5), ValueError, "output_size.*0"),
        ((X, ROIS, 3, 0.5), ValueError, r"C \* 3 \* 3.*\(2, 8, 4, 4\)"),
        ((X, ROIS, 2, 0.0), ValueError, "spatial_scale.*0.0"),
        ((X, ROIS, 2, math.nan), ValueError, "spatial_scale.*nan"),
        ((X, ROIS[:, :4], 2, 0.5), ValueError, r"rois.*\(1, 4\)"),
        ((X[0], ROIS, 2, 0.5), ValueError, r"\(8, 4, 4\)"),
        ((X, ROIS + 2, 2, 0.5), ValueError, "batch index in 0 ... 1, got 2"),
        ((X, ROIS - 1, 2, 0.5), ValueError, "batch index in 0 ... 1, got -1"),
        ((X, ROIS * math.nan, 2, 0.5), ValueError, "finite"),
        ((X, ROIS.to("meta"), 2, 0.5), ValueError, "one device"),
    ],
)
def test_bad_arguments(args, error, match):
    with pytest.raises(error, match=match):
        ps_roi_pool(*args)
