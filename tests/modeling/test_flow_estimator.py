import pytest
import torch
from torch import nn

from iff_detectron2.layers import local_correlation
from iff_detectron2.modeling import AdvancedIFF, BasicIFF, DirectionalIFF
from iff_detectron2.modeling.flow_estimator import directions

IMAGES = torch.empty(0)  # in-network estimation looks at features alone


def make(kind, scale=0.0):
    torch.manual_seed(0)
    if kind is BasicIFF:
        estimator = BasicIFF(in_channels=6, channels=8)
    else:
        estimator = AdvancedIFF(
            in_channels=6, channels=8, pair_channels=4, max_displacement=4, correlation_stride=2
        )
    if scale:
        nn.init.normal_(estimator.flow.weight, std=scale)
    return estimator.double()


def convs(module):
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def test_layer_counts_of_the_paper():
    assert len(convs(make(BasicIFF))) == 3
    assert len(convs(make(AdvancedIFF))) == 9


def test_advanced_widths_of_the_paper():
    estimator = AdvancedIFF(
        in_channels=1024, channels=512, pair_channels=128, max_displacement=10, correlation_stride=2
    )
    shapes = {name: tuple(p.shape) for name, p in estimator.named_parameters() if p.dim() == 4}
    assert shapes == {
        "eb1.left1.weight": (512, 1024, 1, 1),
        "eb1.left2.weight": (512, 512, 3, 3),
        "eb1.right.weight": (512, 1024, 1, 1),
        "eb2.left1.weight": (128, 512, 1, 1),
        "eb2.left2.weight": (128, 128, 3, 3),
        "eb2.right.weight": (128, 512, 1, 1),
        "relation.weight": (128, 121, 3, 3),
        "fuse.weight": (128, 128, 3, 3),
        "flow.weight": (2, 128, 3, 3),
    }


@pytest.mark.parametrize("kind", [BasicIFF, AdvancedIFF])
def test_training_starts_from_no_motion(kind):
    estimator = make(kind)
    codes = estimator.encode(torch.randn(4, 6, 5, 7, dtype=torch.float64), IMAGES)
    flow = estimator(codes[:1], codes[1:])
    assert flow.shape == (3, 2, 5, 7)
    assert not flow.any()


@pytest.mark.parametrize("kind", [BasicIFF, AdvancedIFF])
def test_refs_do_not_mix(kind):
    estimator = make(kind, scale=0.1)
    codes = estimator.encode(torch.randn(4, 6, 5, 7, dtype=torch.float64), IMAGES)
    together = estimator(codes[:1], codes[1:])
    assert together.any()
    for j in range(3):
        alone = estimator(codes[:1], codes[j + 1 : j + 2])
        torch.testing.assert_close(together[j : j + 1], alone)


@pytest.mark.parametrize("kind", [BasicIFF, AdvancedIFF])
def test_no_refs(kind):
    estimator = make(kind)
    codes = estimator.encode(torch.randn(1, 6, 5, 7, dtype=torch.float64), IMAGES)
    assert estimator(codes, codes[:0]).shape == (0, 2, 5, 7)


@pytest.mark.parametrize("count", [0, 1, 4, 7])
@pytest.mark.parametrize("kind", [BasicIFF, AdvancedIFF])
def test_in_testing_refs_may_come_in_parts(kind, count):
    estimator = make(kind, scale=0.1)
    codes = estimator.encode(torch.randn(1 + count, 6, 5, 7, dtype=torch.float64), IMAGES)
    key, refs = codes[:1], codes[1:]
    expected = estimator(key, refs)
    for parts in (refs, [refs], [refs[:3], refs[3:]], refs.split(1) if count else [refs]):
        flow = estimator.estimate(key, parts)
        assert flow.shape == (count, 2, 5, 7)
        torch.testing.assert_close(flow, expected)


def test_the_cpu_holds_few_pairs_at_a_time(monkeypatch):
    estimator = make(AdvancedIFF, scale=0.1)
    sizes, contexts = [], []
    estimator.relation.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    estimator.eb2.register_forward_hook(lambda *_: contexts.append(1))
    codes = estimator.encode(torch.randn(8, 6, 5, 7, dtype=torch.float64), IMAGES)
    monkeypatch.setattr(estimator, "cpu_batch", 3)
    estimator.estimate(codes[:1], codes[1:].split(1))
    assert sizes == [3, 3, 1]
    assert len(contexts) == 1


def test_advanced_module_by_its_figure():
    """Fig. 4 and 5 written out with plain functions, the correlation as a loop."""
    f = nn.functional
    estimator = make(AdvancedIFF, scale=0.1)
    key, ref = torch.randn(2, 1, 6, 5, 7, dtype=torch.float64)
    weights = dict(estimator.named_parameters())

    def conv(name, x):
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return f.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)

    def block(name, x):
        left = conv(f"{name}.left2", f.relu(conv(f"{name}.left1", x)))
        return f.relu(left + conv(f"{name}.right", x))

    a, b = block("eb1", key), block("eb1", ref)
    padded = f.pad(b, (4, 4, 4, 4))
    shifts = [(dy, dx) for dy in (-4, -2, 0, 2, 4) for dx in (-4, -2, 0, 2, 4)]
    relation = torch.stack(
        [(a * padded[..., 4 + dy : 9 + dy, 4 + dx : 11 + dx]).sum(1) / 8 for dy, dx in shifts], 1
    )
    merged = f.relu(conv("relation", relation) + block("eb2", a))
    expected = conv("flow", f.relu(conv("fuse", merged)))
    got = estimator(estimator.encode(key, IMAGES), estimator.encode(ref, IMAGES))
    torch.testing.assert_close(got, expected)


def test_displacement_must_be_a_multiple_of_the_stride():
    with pytest.raises(ValueError, match="MAX_DISPLACEMENT"):
        AdvancedIFF(
            in_channels=4, channels=4, pair_channels=4, max_displacement=5, correlation_stride=2
        )


def test_normalised_correlation_sees_directions_alone():
    """Brightness and what all cells have in common change nothing; a shift moves the peak."""
    x = torch.randn(1, 6, 9, 9, generator=torch.Generator().manual_seed(0))
    common = torch.randn(1, 6, 1, 1)
    torch.testing.assert_close(directions(3 * x + common), directions(x), rtol=1e-4, atol=1e-5)
    assert directions(x).norm(dim=1).max() <= 1
    shifted = x.roll((1, 2), (2, 3))
    cosines = local_correlation(directions(x), directions(shifted), 4, 1)
    peak = cosines[0, :, 4, 4].argmax().item()
    assert divmod(peak, 9) == (4 + 1, 4 + 2)  # dy = 1, dx = 2


def test_maps_without_contrast_have_short_directions_and_a_bounded_gradient():
    flat = torch.ones(1, 6, 5, 7, requires_grad=True)
    out = directions(flat)
    assert not out.any()
    out.sum().backward()
    assert flat.grad.abs().max() < 1e4


def test_the_directional_module_adds_one_learned_parameter():
    arguments = {"in_channels": 6, "channels": 8, "pair_channels": 4}
    arguments.update(max_displacement=4, correlation_stride=2)
    plain, own = (kind(**arguments) for kind in (AdvancedIFF, DirectionalIFF))
    names = {name for name, _ in own.named_parameters()}
    assert names - {name for name, _ in plain.named_parameters()} == {"log_scale"}
    codes = torch.randn(4, 8, 5, 7)
    nn.init.normal_(own.flow.weight)
    own(codes[:1], codes[1:]).sum().backward()
    assert own.log_scale.grad != 0
