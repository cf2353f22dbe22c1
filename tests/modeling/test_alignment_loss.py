import itertools
import math

import pytest
import torch

from iff_detectron2.layers import flow_warp
from iff_detectron2.modeling import AdvancedIFF, BasicIFF, TransformationResidualLoss


def smooth_l1(difference: float) -> float:
    return 0.5 * difference**2 if abs(difference) < 1 else abs(difference) - 0.5


def test_equals_equation_3_by_hand():
    key = torch.tensor([[[[1.0, 2.0], [0.0, -1.0]], [[0.5, 0.0], [3.0, 1.0]]]])
    refs = torch.tensor([[[[0.0, 2.5], [0.0, 4.0]], [[0.5, 0.25], [0.0, 1.0]]]])
    loss = TransformationResidualLoss(weight=0.65)(key, refs, torch.zeros(1, 2, 2, 2))
    differences = [-1.0, 0.5, 0.0, 5.0, 0.0, 0.25, -3.0, 0.0]
    assert loss.item() == pytest.approx(0.65 * sum(map(smooth_l1, differences)) / 8)


def test_value_and_gradient_by_hand_in_float64():
    """Warp and smooth L1 of every cell and channel as Eq. 3 writes them, in plain Python."""
    torch.manual_seed(0)
    key, refs = (torch.randn(n, 2, 3, 4, dtype=torch.float64) for n in (1, 2))
    flow = 1.7 * torch.randn(2, 2, 3, 4, dtype=torch.float64)
    value, slope = 0.0, torch.zeros_like(flow)
    for j, y, x in itertools.product(range(2), range(3), range(4)):
        u, v = x + flow[j, 0, y, x].item(), y + flow[j, 1, y, x].item()
        x0, y0 = math.floor(u), math.floor(v)
        for c in range(2):

            def cell(row, column, c=c, j=j):
                inside = 0 <= row < 3 and 0 <= column < 4
                return refs[j, c, row, column].item() if inside else 0.0

            a, b = cell(y0, x0), cell(y0, x0 + 1)
            d, e = cell(y0 + 1, x0), cell(y0 + 1, x0 + 1)
            fx, fy = u - x0, v - y0
            top, bottom = a + fx * (b - a), d + fx * (e - d)
            residual = top + fy * (bottom - top) - key[0, c, y, x].item()
            value += smooth_l1(residual)
            outer = max(-1.0, min(1.0, residual))
            slope[j, 0, y, x] += outer * ((1 - fy) * (b - a) + fy * (e - d))
            slope[j, 1, y, x] += outer * (bottom - top)
    scale = 0.65 / (2 * 2 * 3 * 4)  # lambda over neighbours, channels and locations
    variable = flow.clone().requires_grad_()
    loss = TransformationResidualLoss(weight=0.65)(key, refs, variable)
    loss.backward()
    assert loss.dtype == torch.float64
    assert loss.item() == pytest.approx(scale * value, rel=1e-12)
    torch.testing.assert_close(variable.grad, scale * slope, rtol=1e-10, atol=1e-12)


def test_is_the_mean_over_refs():
    torch.manual_seed(0)
    key, refs = torch.randn(1, 3, 4, 5), torch.randn(3, 3, 4, 5)
    flow = torch.randn(3, 2, 4, 5)
    trl = TransformationResidualLoss(weight=2.0)
    alone = [trl(key, refs[j : j + 1], flow[j : j + 1]).item() for j in range(3)]
    assert trl(key, refs, flow).item() == pytest.approx(sum(alone) / 3, rel=1e-6)


@pytest.mark.parametrize("grad_to_features", [False, True])
def test_gradient_reaches_what_the_key_says(grad_to_features):
    torch.manual_seed(0)
    key, refs, flow = torch.randn(1, 3, 4, 5), torch.randn(2, 3, 4, 5), torch.randn(2, 2, 4, 5)
    for x in (key, refs, flow):
        x.requires_grad_()
    TransformationResidualLoss(weight=1.0, grad_to_features=grad_to_features)(
        key, refs, flow
    ).backward()
    assert flow.grad.abs().sum() > 0
    assert (key.grad is not None) == grad_to_features
    assert (refs.grad is not None) == grad_to_features


def test_gradient_by_finite_differences():
    torch.manual_seed(0)
    key = torch.randn(1, 3, 4, 5, dtype=torch.float64)
    refs = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    # Away from whole cells, where the bilinear warp has a kink.
    flow = torch.rand(2, 2, 4, 5, dtype=torch.float64) * 0.8 + 0.1

    def loss(f):
        difference = flow_warp(refs, f) - key
        squared = 0.5 * difference**2
        return torch.where(difference.abs() < 1, squared, difference.abs() - 0.5).mean()

    variable = flow.clone().requires_grad_()
    TransformationResidualLoss(weight=1.0)(key, refs, variable).backward()
    for index in [(0, 0, 1, 1), (1, 1, 2, 3), (0, 1, 3, 4)]:
        step = torch.zeros_like(flow)
        step[index] = 1e-5
        slope = (loss(flow + step) - loss(flow - step)) / 2e-5
        assert variable.grad[index].item() == pytest.approx(slope.item(), rel=1e-3, abs=1e-7)


def test_descent_on_the_loss_alone_recovers_a_translation():
    def pattern(dx, dy):
        """Smooth blobs that vanish at the border, moved by (dx, dy)."""
        y, x = torch.meshgrid(torch.arange(24.0), torch.arange(24.0), indexing="ij")
        centres = [(9, 11, 3), (13, 10, 4), (12, 14, 3)]
        return torch.stack(
            [torch.exp(-((x + dx - a) ** 2 + (y + dy - b) ** 2) / c**2) for a, b, c in centres]
        )[None]

    shift = (1.3, -0.7)
    motion = torch.zeros(1, 2, 1, 1, requires_grad=True)
    optimiser = torch.optim.Adam([motion], lr=0.05)
    trl = TransformationResidualLoss(weight=1.0)
    for _ in range(150):
        optimiser.zero_grad()
        trl(pattern(*shift), pattern(0, 0), motion.expand(1, 2, 24, 24)).backward()
        optimiser.step()
    assert motion.flatten().tolist() == pytest.approx(shift, abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [BasicIFF, AdvancedIFF])
def test_the_modules_learn_a_translation_from_the_loss_alone(kind):
    """Two frames of waves, the second moved: the predicted flow becomes the motion."""
    torch.manual_seed(0)
    direction, phase = 0.5 * torch.randn(16, 6, 2), 6.28 * torch.rand(16, 6)
    y, x = torch.meshgrid(torch.arange(18.0), torch.arange(18.0), indexing="ij")

    def waves(dx, dy):
        rows = direction[..., 0, None, None] * (x + dx) + direction[..., 1, None, None] * (y + dy)
        return 1.5 * torch.sin(rows + phase[..., None, None]).mean(1)[None]

    shift = torch.tensor([1.6, -0.7])
    key, ref = waves(*shift), waves(0, 0)
    options = {"in_channels": 16, "channels": 8}
    if kind is AdvancedIFF:
        options |= {"pair_channels": 8, "max_displacement": 3, "correlation_stride": 1}
    estimator = kind(**options)
    optimiser = torch.optim.Adam(estimator.parameters(), lr=5e-3)
    trl = TransformationResidualLoss(weight=1.0)
    for _ in range(150):
        optimiser.zero_grad()
        flow = estimator(estimator.encode(key, None), estimator.encode(ref, None))
        trl(key, ref, flow).backward()
        optimiser.step()
    inside = flow.detach()[0, :, 4:-4, 4:-4]  # nearer the edge some cells look out of the map
    torch.testing.assert_close(inside.mean((1, 2)), shift, rtol=0, atol=0.1)
    assert (inside - shift.view(2, 1, 1)).abs().median() < 0.1


def test_no_refs_give_no_loss():
    empty = torch.zeros(0, 3, 4, 5)
    loss = TransformationResidualLoss(weight=1.0)(torch.randn(1, 3, 4, 5), empty, empty[:, :2])
    assert loss.item() == 0


def test_negative_weight_is_refused():
    with pytest.raises(ValueError, match=r"TRL\.WEIGHT"):
        TransformationResidualLoss(weight=-0.1)
