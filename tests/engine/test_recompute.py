"""Blocks that are computed twice change no number but the memory that a step takes."""

import copy

import pytest
import torch
from detectron2.layers import CNNBlockBase
from detectron2.utils.events import EventStorage
from toy_models import build, make_video, randomise_flow, tiny_cfg, training_sample

from iff_detectron2.engine.recompute import recompute_blocks

FROZEN = ("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.BACKBONE.FREEZE_AT", 2)
DEFORMABLE = ("MODEL.DILATED_RESNET.DEFORM_BLOCKS", [0, 0, 0, 1])


def gradients(model, sample):
    torch.manual_seed(0)
    with EventStorage():
        losses = model([sample])
    sum(losses.values()).backward()
    return losses, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("opts", [(), DEFORMABLE], ids=["plain", "deformable"])
def test_gradients_and_names_stay(opts):
    model = build(tiny_cfg(*FROZEN, *opts)).train()
    randomise_flow(model, scale=0.05)
    other = copy.deepcopy(model)
    sample = training_sample(make_video(3), 1, (-1, 1), [(10.0, 10.0, 60.0, 50.0)], [0])
    losses, expected = gradients(model, sample)

    calls = []
    blocks = [b for b in other.backbone.modules() if isinstance(b, CNNBlockBase)]
    for block in blocks:
        block.conv1.register_forward_hook(lambda module, args, out: calls.append(module))
    recompute_blocks(other.backbone)
    again, got = gradients(other, sample)
    # The stem and res2 are frozen, and keep nothing anyway.
    assert len(calls) == 1 + 1 + 2 * (len(blocks) - 2)
    assert other.state_dict().keys() == model.state_dict().keys()
    model.load_state_dict(other.state_dict())
    for name, loss in losses.items():
        assert torch.equal(again[name], loss), name
    got = {name.replace("_checkpoint_wrapped_module.", ""): grad for name, grad in got.items()}
    assert got.keys() == expected.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(got[name], grad, rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize(
    ("opts", "message"),
    [
        (("MODEL.RESNETS.NORM", "BN"), "BatchNorm"),
        (("MODEL.BACKBONE.FREEZE_AT", 5), "ReducedResNet does not have"),
    ],
)
def test_what_it_does_not_go_with_is_named(opts, message):
    with pytest.raises(ValueError, match=rf"MODEL\.BACKBONE\.RECOMPUTE.*{message}"):
        recompute_blocks(build(tiny_cfg(*FROZEN, *opts)).backbone)
