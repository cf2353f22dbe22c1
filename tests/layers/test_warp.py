"""flow_warp: exact identity and shifts, a float64 loop, gradients, borders and bad arguments."""

from __future__ import annotations

import math

import pytest
import torch

from iff_detectron2.layers import flow_warp, resize_flow

SIZES = [(1, 1), (1, 9), (7, 1), (5, 8), (20, 28), (38, 63), (63, 38), (49, 51)]
FORMATS = [torch.contiguous_format, torch.channels_last]


def reference(x, flow):
    """Bilinear sampling read off cell by cell, float64."""
    x, flow = x.double(), flow.double()
    batch, _, height, width = x.shape
    out = torch.zeros_like(x)
    for n in range(batch):
        for row in range(height):
            for column in range(width):
                px = column + flow[n, 0, row, column].item()
                py = row + flow[n, 1, row, column].item()
                left, top = math.floor(px), math.floor(py)
                for y in (top, top + 1):
                    for z in (left, left + 1):
                        if 0 <= y < height and 0 <= z < width:
                            weight = (1 - abs(px - z)) * (1 - abs(py - y))
                            out[n, :, row, column] += weight * x[n, :, y, z]
    return out


def shifted(x, dx, dy):
    """out[y, x] = x[y + dy, x + dx], zeros outside."""
    out = torch.zeros_like(x)
    height, width = x.shape[2:]
    for row in range(max(0, -dy), min(height, height - dy)):
        for column in range(max(0, -dx), min(width, width - dx)):
            out[:, :, row, column] = x[:, :, row + dy, column + dx]
    return out


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_zero_flow_is_the_exact_identity(size, memory_format, dtype):
    x = torch.randn(2, 5, *size).to(dtype).contiguous(memory_format=memory_format)
    out = flow_warp(x, torch.zeros(2, 2, *size, dtype=dtype))
    assert torch.equal(out, x)
    assert out.dtype == dtype
    assert out.stride() == x.stride()


def test_zero_flow_is_exact_for_every_width_up_to_512():
    """A normalised grid rounds differently at each width; coordinates in cells never do."""
    for width in range(1, 513):
        x = torch.randn(1, 1, 1, width)
        assert torch.equal(flow_warp(x, torch.zeros(1, 2, 1, width)), x), width
        y = x.transpose(2, 3).contiguous()
        assert torch.equal(flow_warp(y, torch.zeros(1, 2, width, 1)), y), width


@pytest.mark.parametrize("shift", [(1, 0), (0, 1), (-1, 0), (0, -1), (3, -2), (-40, 0), (0, 99)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_whole_cell_flow_is_an_exact_shift(shift, dtype):
    x = torch.randn(2, 3, 19, 31).to(dtype)
    flow = torch.tensor(shift, dtype=dtype).view(1, 2, 1, 1).expand(2, 2, 19, 31)
    assert torch.equal(flow_warp(x, flow), shifted(x, *shift))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5), (torch.float16, 2e-2)]
)
def test_equals_the_float64_loop(dtype, tolerance, memory_format):
    x = torch.randn(2, 3, 9, 13).to(dtype).contiguous(memory_format=memory_format)
    flow = (4 * torch.randn(2, 2, 9, 13)).to(dtype)
    out = flow_warp(x, flow)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), reference(x, flow), rtol=0, atol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_coordinates_keep_float32_in_half_precision(dtype):
    """Around column 500 a half coordinate steps by 1/4 cell or more; a flow of 1/16 must count."""
    x = torch.zeros(1, 1, 1, 512, dtype=dtype)
    x[..., 1::2] = 1
    flow = torch.zeros(1, 2, 1, 512, dtype=dtype)
    flow[:, 0] = 1 / 16
    out = flow_warp(x, flow)[0, 0, 0].float()
    assert out[0:510:2].eq(1 / 16).all()
    assert out[1:510:2].eq(15 / 16).all()


@pytest.mark.parametrize("memory_format", FORMATS)
def test_gradcheck(memory_format):
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64).contiguous(memory_format=memory_format)
    # Half-cell offsets stay clear of the kinks at whole cells; some leave the map on every side.
    flow = torch.randint(-4, 5, (2, 2, 4, 5)).double() + 0.5 + 0.3 * torch.rand(2, 2, 4, 5).double()
    assert torch.autograd.gradcheck(flow_warp, (x.requires_grad_(), flow.requires_grad_()))


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_gradients_one_at_a_time(needs):
    x, flow = torch.randn(1, 2, 4, 5), torch.rand(1, 2, 4, 5)
    x.requires_grad_(needs[0])
    flow.requires_grad_(needs[1])
    flow_warp(x, flow).sum().backward()
    assert (x.grad is not None, flow.grad is not None) == needs


def test_gradients_in_half_precision_have_the_input_types():
    x = torch.randn(1, 2, 4, 5).half().requires_grad_()
    flow = torch.rand(1, 2, 4, 5).half().requires_grad_()
    flow_warp(x, flow).float().square().sum().backward()
    assert x.grad.dtype == flow.grad.dtype == torch.float16
    exact_x, exact_flow = (
        x.detach().double().requires_grad_(),
        flow.detach().double().requires_grad_(),
    )
    flow_warp(exact_x, exact_flow).square().sum().backward()
    torch.testing.assert_close(x.grad.double(), exact_x.grad, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(flow.grad.double(), exact_flow.grad, rtol=1e-2, atol=2e-2)


def test_every_cell_gathers_its_gradient_when_all_flow_points_to_one():
    x = torch.zeros(1, 1, 3, 4, requires_grad=True)
    columns, rows = torch.arange(4.0).expand(3, 4), torch.arange(3.0)[:, None].expand(3, 4)
    flow = torch.stack((2 - columns, 1 - rows))[None]
    flow_warp(x, flow).sum().backward()
    expected = torch.zeros(1, 1, 3, 4)
    expected[0, 0, 1, 2] = 12
    assert torch.equal(x.grad, expected)


@pytest.mark.parametrize("value", [1e4, -1e4, 3e38, -3e38, math.inf, -math.inf])
def test_huge_flow_gives_zeros_not_nan(value):
    x = torch.randn(1, 2, 4, 5, requires_grad=True)
    flow = torch.full((1, 2, 4, 5), value, requires_grad=True)
    out = flow_warp(x, flow)
    assert torch.equal(out, torch.zeros_like(x))
    out.sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x))
    assert torch.equal(flow.grad, torch.zeros_like(flow))


def test_nan_flow_marks_its_own_location_only():
    x, flow = torch.randn(1, 2, 4, 5), torch.zeros(1, 2, 4, 5)
    flow[0, 0, 1, 2] = math.nan
    out = flow_warp(x, flow)
    assert out[0, :, 1, 2].isnan().all()
    keep = torch.ones(4, 5, dtype=torch.bool)
    keep[1, 2] = False
    assert torch.equal(out[..., keep], x[..., keep])


def test_border_cells_fade_to_zero_over_one_cell():
    x = torch.ones(1, 1, 3, 3)
    flow = torch.zeros(1, 2, 3, 3)
    flow[:, 0] = 0.25
    expected = torch.tensor([1.0, 1.0, 0.75]).expand(3, 3)
    assert torch.equal(flow_warp(x, flow)[0, 0], expected)


@pytest.mark.parametrize("shape", [(0, 3, 4, 5), (2, 0, 4, 5), (2, 3, 0, 5)])
def test_empty(shape):
    x = torch.zeros(shape, requires_grad=True)
    flow = torch.zeros(shape[0], 2, *shape[2:], requires_grad=True)
    out = flow_warp(x, flow)
    assert out.shape == shape
    out.sum().backward()
    assert x.grad.shape == shape


def test_autocast_keeps_the_type_and_the_exactness():
    x = torch.randn(1, 3, 5, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(flow_warp(x, torch.zeros(1, 2, 5, 6)), x)


X, FLOW = torch.zeros(2, 3, 4, 5), torch.zeros(2, 2, 4, 5)


@pytest.mark.parametrize(
    ("args", "error", "match"),
    [
        ((X.long(), FLOW), TypeError, "x must be.*int64"),
        ((X, FLOW.long()), TypeError, "flow must be.*int64"),
        ((X.numpy(), FLOW), TypeError, "x must be.*ndarray"),
        ((X[0], FLOW), ValueError, r"x must have shape.*\(3, 4, 5\)"),
        ((X, FLOW[:1]), ValueError, r"flow must have shape.*\(1, 2, 4, 5\)"),
        ((X, FLOW[:, :1]), ValueError, r"\(2, 1, 4, 5\)"),
        ((X, FLOW[..., :4]), ValueError, r"\(2, 2, 4, 4\)"),
        ((X, FLOW.to("meta")), ValueError, "one device"),
    ],
)
def test_bad_arguments(args, error, match):
    with pytest.raises(error, match=match):
        flow_warp(*args)


# Padded image, strides of the map that has the flow and of the one that it is carried to.
CARRIED = [
    *[((608, 1024), 16, stride) for stride in (8, 16, 64, 128)],
    *[((600, 1000), 16, 8), ((600, 1000), 8, 16), ((49, 65), 4, 32), ((49, 65), 32, 4)],
    ((120, 90), 12, 8),
]


@pytest.mark.parametrize(("image", "old", "new"), CARRIED)
def test_a_carried_flow_is_that_of_the_pixels(image, old, new):
    """The motion is affine in the place, which sampling between cells keeps exactly."""

    def motion(stride):
        """Return what a map of this stride should have: [2, H, W] in its cells, and its centres."""
        y, x = (
            ((torch.arange(math.ceil(side / stride), dtype=torch.float64) + 0.5) * stride)
            for side in image
        )
        y, x = y[:, None], x[None, :]
        flow = torch.stack((3 + 0.02 * x - 0.01 * y, -5 + 0.03 * y + 0.004 * x))
        return flow / stride, y.flatten(), x.flatten()

    flow, y, x = motion(old)
    expected, rows, columns = motion(new)
    got = resize_flow(flow[None], tuple(expected.shape[-2:]), old / new)[0]
    inside_y = (rows >= y[0]) & (rows <= y[-1])
    inside_x = (columns >= x[0]) & (columns <= x[-1])
    assert inside_y.sum() >= 1
    assert inside_x.sum() >= 1
    torch.testing.assert_close(
        got[:, inside_y][..., inside_x], expected[:, inside_y][..., inside_x]
    )


@pytest.mark.parametrize("size", [(14, 27), (13, 5), (1, 1)])
def test_a_carried_flow_keeps_a_uniform_motion_whatever_the_sizes(size):
    motion = torch.tensor([0.5, -2.0], dtype=torch.float64).view(1, 2, 1, 1).expand(2, 2, 7, 9)
    resized = resize_flow(motion, size, 2.0)
    assert resized.shape == (2, 2, *size)
    assert torch.equal(resized, 2 * motion[..., :1, :1].expand_as(resized))


def test_a_resized_linear_flow_is_held_at_its_ends():
    ramp = torch.arange(5, dtype=torch.float64).expand(4, 5)
    resized = resize_flow(torch.stack((ramp, ramp)).unsqueeze(0), (8, 12), 2.0)
    # Centre of new cell k lies at (k + 0.5) / 2 - 0.5 of the old ones.
    centres = ((torch.arange(12, dtype=torch.float64) + 0.5) / 2 - 0.5).clamp(0, 4)
    torch.testing.assert_close(resized[0], (centres * 2).expand(2, 8, 12))


def test_resizing_is_differentiable():
    flow = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resize_flow(x, (5, 7), 1.5), flow)


def test_resizing_to_the_same_size_changes_nothing_and_no_flow_stays_none():
    flow = torch.randn(1, 2, 3, 5)
    assert resize_flow(flow, (3, 5), 1.0) is flow
    assert resize_flow(flow[:0], (6, 7), 2.0).shape == (0, 2, 6, 7)


@pytest.mark.parametrize(
    ("shape", "size", "scale"),
    [((1, 3, 4, 4), (2, 2), 0.5), ((1, 2, 4, 4), (0, 2), 0.5), ((1, 2, 4, 4), (2, 2), 0)],
)
def test_resizing_refuses_what_is_no_flow_or_no_map(shape, size, scale):
    with pytest.raises(ValueError, match=r"flow"):
        resize_flow(torch.zeros(shape), size, scale)
