import pytest
import torch
from torch.nn import functional as F
from toy_models import build, tiny_cfg

from iff_detectron2.layers import flow_warp
from iff_detectron2.modeling import ContextResidualLoss, TransformationResidualLoss
from iff_detectron2.modeling.context_loss import edge_aware_roughness, patch_relations


def texture(seed, side, channels=4):
    """Smooth noise of unit variance."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(1, channels, side, side, generator=generator)
    for _ in range(2):
        x = F.avg_pool2d(x, 3, stride=1, padding=1)
    return x / x.std()


def test_relations_by_hand():
    x = torch.tensor([[1.0, 2.0], [4.0, 0.0]]).view(1, 1, 2, 2)
    got = patch_relations(x, torch.full((1, 1, 1, 1), 3.0))
    # Around the upper left cell, rows first; the map goes on as it ends.
    around = [1.0, 1.0, 2.0, 1.0, 2.0, 4.0, 4.0, 0.0]
    expected = [(a - 1) / (9 + (a - 1) ** 2) ** 0.5 for a in around]
    assert got.shape == (1, 8, 1, 2, 2)
    assert got[0, :, 0, 0, 0].tolist() == pytest.approx(expected)


def test_without_context_it_is_the_trl():
    torch.manual_seed(0)
    key, refs, flow = torch.randn(1, 3, 6, 7), torch.randn(2, 3, 6, 7), torch.randn(2, 2, 6, 7)
    plain = TransformationResidualLoss(weight=0.65)(key, refs, flow)
    ours = ContextResidualLoss(weight=0.65, census=0.0, smoothness=0.0)(key, refs, flow)
    torch.testing.assert_close(ours, plain)


def test_patches_do_not_see_a_change_of_brightness():
    key = texture(0, 12).double()
    flow = torch.zeros(1, 2, 12, 12, dtype=torch.float64)
    loss = ContextResidualLoss(weight=1.0, census=1.0, smoothness=0.0)
    assert loss(key, key + 5.0, flow).item() == pytest.approx(0, abs=1e-12)
    assert loss(key, key.flip(-1), flow).item() > 0.1


def test_one_mismatch_costs_no_more_than_one():
    key = torch.zeros(1, 1, 5, 5)
    key[..., ::2] = 1.0
    wrong = key.clone()
    wrong[..., 2, 2] = 1e6
    loss = ContextResidualLoss(weight=1.0, census=1.0, smoothness=0.0)
    # The cell is in the patches of nine cells: 16 of 8 x 25 relations.
    assert 0 < loss(key, wrong, torch.zeros(1, 2, 5, 5)).item() <= 16 / 200


def test_roughness_is_forgiven_at_edges():
    flow = torch.zeros(1, 2, 4, 8)
    flow[..., 4:] = 2.0
    flat = torch.zeros(1, 1, 4, 8)
    # One of seven steps bends by 2 in both components.
    assert edge_aware_roughness(flow, flat).item() == pytest.approx(2 / 7)
    edge = flat.clone()
    edge[..., 4:] = 1.0
    # The mean edge is 1 / 7 of this one, so it weighs exp(-7).
    expected = 2 / 7 * torch.tensor(-7.0).exp().item()
    assert edge_aware_roughness(flow, edge).item() == pytest.approx(expected)
    assert edge_aware_roughness(torch.ones(1, 2, 4, 8), edge).item() == 0


def test_gradient_by_finite_differences():
    torch.manual_seed(0)
    key = torch.randn(1, 2, 4, 5, dtype=torch.float64)
    refs = torch.randn(2, 2, 4, 5, dtype=torch.float64)
    flow = (0.1 + 0.8 * torch.rand(2, 2, 4, 5, dtype=torch.float64)).requires_grad_()
    loss = ContextResidualLoss(weight=1.3)
    assert torch.autograd.gradcheck(lambda f: loss(key, refs, f), flow)


@pytest.mark.parametrize("grad_to_features", [False, True])
def test_gradient_reaches_what_the_key_says(grad_to_features):
    key, refs, flow = torch.randn(1, 3, 4, 5), torch.randn(2, 3, 4, 5), torch.randn(2, 2, 4, 5)
    for x in (key, refs, flow):
        x.requires_grad_()
    ContextResidualLoss(weight=1.0, grad_to_features=grad_to_features)(key, refs, flow).backward()
    assert flow.grad.abs().sum() > 0
    assert (key.grad is not None) == grad_to_features
    assert (refs.grad is not None) == grad_to_features


def moving_square(seed):
    """Return a square that moves by (2, 1) over a still background: key, neighbour, flow, border
    cells."""
    back, square = texture(seed, 20), texture(seed + 100, 20) + 1.0

    def frame(dx, dy):
        image = back.clone()
        image[..., 6 + dy : 14 + dy, 6 + dx : 14 + dx] = square[..., :8, :8]
        return image

    flow = torch.zeros(1, 2, 20, 20)
    flow[:, 0, 6:14, 6:14], flow[:, 1, 6:14, 6:14] = 2.0, 1.0
    border = torch.zeros(20, 20, dtype=torch.bool)
    border[4:16, 4:16] = True
    border[8:12, 8:12] = False
    return frame(0, 0), frame(2, 1), flow, border


def border_error(loss, seed):
    """Mean error of the flow near the border, in cells, after minimising the loss alone."""
    key, ref, true, border = moving_square(seed)
    flow = torch.zeros_like(true, requires_grad=True)
    optimiser = torch.optim.Adam([flow], lr=0.05)
    for _ in range(150):
        optimiser.zero_grad()
        loss(key, ref, flow).backward()
        optimiser.step()
    return (flow.detach() - true).norm(dim=1)[0][border].mean().item()


@pytest.mark.slow
def test_the_flow_holds_at_the_border_of_an_object():
    plain = [border_error(TransformationResidualLoss(weight=1.0), seed) for seed in range(3)]
    ours = [border_error(ContextResidualLoss(weight=1.0), seed) for seed in range(3)]
    assert sum(ours) < 0.8 * sum(plain), (ours, plain)


def test_no_refs_give_no_loss():
    empty = torch.zeros(0, 3, 4, 5)
    loss = ContextResidualLoss(weight=1.0)(torch.randn(1, 3, 4, 5), empty, empty[:, :2])
    assert loss.item() == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 5)])
def test_maps_of_one_cell(size):
    key, refs = torch.randn(1, 2, *size), torch.randn(1, 2, *size)
    assert torch.isfinite(ContextResidualLoss(weight=1.0)(key, refs, torch.zeros(1, 2, *size)))


def test_flat_features_give_no_nan():
    flow = torch.randn(1, 2, 4, 4, requires_grad=True)
    ContextResidualLoss(weight=1.0)(torch.ones(1, 2, 4, 4), torch.ones(1, 2, 4, 4), flow).backward()
    assert torch.isfinite(flow.grad).all()


def test_it_is_built_from_its_keys():
    opts = ("MODEL.IFF.TRL.NAME", "ContextResidualLoss", "MODEL.IFF.TRL.CENSUS", 0.25)
    loss = build(tiny_cfg(*opts)).temporal.aggregators["reduction"].alignment_loss
    assert type(loss) is ContextResidualLoss
    assert (loss.weight, loss.census, loss.smoothness) == (10.0, 0.25, 0.3)


@pytest.mark.parametrize("kwargs", [{"census": 1.5}, {"smoothness": -1.0}])
def test_wrong_values_name_their_keys(kwargs):
    with pytest.raises(ValueError, match=r"TRL\.CENSUS"):
        ContextResidualLoss(weight=1.0, **kwargs)


def test_warp_of_the_square_is_right():
    """The scene of the border test: inside the square its flow brings the neighbour to the key."""
    key, ref, flow, _ = moving_square(0)
    torch.testing.assert_close(flow_warp(ref, flow)[..., 6:14, 6:14], key[..., 6:14, 6:14])
