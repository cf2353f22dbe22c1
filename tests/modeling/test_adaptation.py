"""Losses of label-free adaptation against numbers worked out by hand."""

from __future__ import annotations

import pytest
import torch
from toy_models import build, make_video, randomise_flow, tiny_cfg, window_sample

from iff_detectron2.modeling.adaptation import (
    Adaptation,
    AdaptedMap,
    HarmlessnessLoss,
    RestorationLoss,
    build_adaptation_losses,
    relative_error,
)


def full(value: float, size: tuple[int, int] = (2, 3)) -> torch.Tensor:
    return torch.full((1, 4, *size), value, dtype=torch.float32)


@pytest.fixture
def maps() -> dict[str, AdaptedMap]:
    """Teacher 3 everywhere, so that its energy is 9."""
    return {
        "a": AdaptedMap(full(3), full(5), full(4), full(3.5)),
        "b": AdaptedMap(full(3, (1, 1)), full(2, (1, 1)), full(3, (1, 1)), full(4, (1, 1))),
    }


def test_restoration_is_the_error_that_is_left(maps) -> None:
    # a: (4 - 3)^2 / 9; b: nothing is left.
    assert RestorationLoss(weight=2.0)([maps]).item() == pytest.approx(2 * (1 / 9 + 0) / 2)


def test_harmlessness_measures_in_the_same_unit(maps) -> None:
    # a: 0.5^2 / 9; b: 1 / 9.
    assert HarmlessnessLoss(weight=1.0)([maps]).item() == pytest.approx((0.25 / 9 + 1 / 9) / 2)


def test_a_batch_has_one_unit() -> None:
    # Errors of 1 and 0.01, energies of 9 and 1.
    much = AdaptedMap(full(3), full(5), full(4), full(3))
    hardly = AdaptedMap(full(1), full(1.1), full(1.1), full(1))
    batch = [{"a": much}, {"a": hardly}]
    assert relative_error(batch, lambda m: m.restored).item() == pytest.approx(1.01 / 10)


def test_maps_of_zeros_are_no_division_by_zero() -> None:
    restored = full(0.01).requires_grad_()
    one = AdaptedMap(full(0), full(0), restored, full(0))
    loss = RestorationLoss(weight=1.0)([{"a": one}])
    loss.backward()
    assert loss.item() == pytest.approx(0.01**2 / 1e-8, rel=1e-3)
    assert restored.grad.isfinite().all()


def test_half_precision_is_compared_in_float32() -> None:
    spoilt = AdaptedMap(full(300).half(), full(600).half(), full(450).half(), full(300).half())
    # 300^2 overflows half precision.
    assert RestorationLoss(weight=1.0)([{"a": spoilt}]).item() == pytest.approx(0.25)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ADAPT must not be negative, got -1"):
        RestorationLoss(weight=-1.0)


@pytest.fixture(scope="module")
def adaptation() -> Adaptation:
    """Return a tiny gated video detector under adaptation, whose flow and gate are open."""
    cfg = tiny_cfg("MODEL.IFF.GATE", True)
    detector = build(cfg)
    randomise_flow(detector)
    detector.temporal.gates["reduction"].data.fill_(0.5)
    return Adaptation(detector, build_adaptation_losses(cfg))


@pytest.fixture(scope="module")
def clip() -> dict:
    """Return a sample of three frames, with a key frame that is spoilt."""
    video = make_video(3)
    sample = window_sample(video, 1, [-1, 1])
    return {**sample, "spoilt_image": (video[1] // 3)}


def test_the_maps_are_those_that_the_detector_makes(adaptation, clip) -> None:
    """Fuse windows by the detector's own pass, once with either key frame."""
    with torch.no_grad():
        maps, _ = adaptation.adapted_maps(clip)
        detector = adaptation.detector.eval()
        for key, expected in (("image", maps["reduction"].kept), ("spoilt_image", None)):
            seen = {}
            hook = detector.proposal_generator.register_forward_pre_hook(
                lambda _, args, seen=seen: seen.update(args[1])
            )
            window = {k: v for k, v in clip.items() if k != "video_id"}
            detector([{**window, "image": clip[key]}])
            hook.remove()
            wanted = maps["reduction"].restored if expected is None else expected
            torch.testing.assert_close(seen["reduction"], wanted, rtol=1e-4, atol=1e-5)
    adaptation.train()


def test_only_the_temporal_part_learns(adaptation, clip) -> None:
    adaptation.zero_grad()
    losses = adaptation([clip, clip])
    assert set(losses) == {"loss_restoration", "loss_harmlessness", "loss_trl"}
    sum(losses.values()).backward()
    for name, parameter in adaptation.detector.named_parameters():
        learns = name.startswith("temporal.")
        assert (parameter.grad is not None) == learns, name
    assert adaptation.detector.temporal.gates["reduction"].grad.abs() > 0


def test_a_closed_gate_restores_nothing_and_harms_nothing(clip) -> None:
    cfg = tiny_cfg("MODEL.IFF.GATE", True)
    closed = Adaptation(build(cfg), build_adaptation_losses(cfg))
    maps, _ = closed.adapted_maps(clip)
    one = maps["reduction"]
    assert torch.equal(one.restored, one.spoilt)
    assert torch.equal(one.kept, one.teacher)
    assert torch.equal(maps["reduction"].kept, maps["reduction"].teacher)


def test_the_teacher_does_not_train(adaptation) -> None:
    adaptation.train()
    in_training = {n for n, m in adaptation.detector.named_modules() if m.training and n}
    assert in_training
    assert all(name.startswith("temporal") for name in in_training)


def test_no_loss_is_an_error() -> None:
    cfg = tiny_cfg("MODEL.IFF.ADAPT.LOSSES", [])
    with pytest.raises(ValueError, match="LOSSES is empty"):
        build_adaptation_losses(cfg)
