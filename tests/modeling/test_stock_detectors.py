"""Detectron2's own configs become temporal by a key, and stay what they were where they should."""

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.events import EventStorage
from stock_detectors import (
    CONFIGS,
    HEIGHT,
    STOCK,
    WIDTH,
    add_proposals,
    build_plain,
    build_video,
    stock_cfg,
    tensors,
    training_sample,
)
from toy_models import make_video, randomise_flow, window_sample

from iff_detectron2.engine import VideoCheckpointer

pytestmark = pytest.mark.slow


@pytest.fixture(params=CONFIGS, ids=lambda name: name.rpartition("/")[2])
def config(request) -> str:
    return request.param


def detect(model, samples) -> list[dict]:
    with torch.no_grad():
        return [tensors(model([add_proposals(sample)])[0]) for sample in samples]


def stream(clip, offsets=(-1, 1)) -> list[dict]:
    return [window_sample(clip, t, offsets, streaming_from=max(t - 1, 0)) for t in range(len(clip))]


def assert_same(got: dict, expected: dict) -> None:
    """Equal up to the rounding of a sum over frames."""
    assert list(got) == list(expected)
    for name, value in expected.items():
        assert got[name].shape == value.shape, name
        if value.dtype == torch.bool:  # a mask's edge may fall on either side of a pixel
            assert (got[name] != value).float().mean() < 1e-3, name
        else:
            tolerance = 1e-4 * max(1.0, value.abs().max().item())
            torch.testing.assert_close(got[name], value, rtol=0, atol=tolerance)


def test_a_training_step_reaches_every_temporal_weight(config):
    cfg = stock_cfg(config)
    plain, video = build_plain(cfg).train(), build_video(cfg).train()
    video.load_state_dict(plain.state_dict(), strict=False)
    clip = make_video(4, HEIGHT, WIDTH)
    batch = [training_sample(clip, 1, (-1, 2)), training_sample(clip, 3, (-1, 0))]
    with EventStorage(0):
        losses = video(batch)
        expected = plain(batch)
    assert losses.keys() == expected.keys() | {"loss_trl"}
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in video.named_parameters() if p.requires_grad}
    # Distributed training would hang on a temporal weight without gradient.
    assert not [n for n, g in gradients.items() if n.startswith("temporal.") and g is None]
    # On the coarsest maps a few boxes may leave a layer without a say, on all maps not.
    for layer in ("flow_estimator.flow.weight", "embedding.2.weight"):
        assert max(g.abs().max() for n, g in gradients.items() if n.endswith(layer)) > 0
    assert any(name.startswith("backbone.") for name in gradients)
    before = {name: x.detach().clone() for name, x in video.state_dict().items()}
    torch.optim.SGD([p for p in video.parameters() if p.requires_grad], lr=1e-2).step()
    with EventStorage(0):
        assert all(torch.isfinite(loss) for loss in video(batch).values())
    assert any(not torch.equal(x, before[name]) for name, x in video.state_dict().items())


def test_a_stream_gives_what_whole_windows_give(config):
    cfg = stock_cfg(config)
    plain, video = build_plain(cfg), build_video(cfg)
    video.load_state_dict(plain.state_dict(), strict=False)
    randomise_flow(video)
    clip = make_video(3, HEIGHT, WIDTH)
    streamed = detect(video, stream(clip))
    video.temporal.streaming = False
    whole = detect(video, [window_sample(clip, t, (-1, 1)) for t in range(3)])
    alone = detect(plain, [{"image": image} for image in clip])
    for got, expected, other in zip(streamed, whole, alone, strict=True):
        assert_same(got, expected)
        assert list(got) == list(other)
    # Aggregation did something.
    assert any(
        a[name].shape != b[name].shape or not torch.allclose(a[name], b[name], atol=1e-3)
        for a, b in zip(streamed, alone, strict=True)
        for name in a
    )


def test_a_static_clip_with_zero_flow_gives_the_plain_output(config):
    cfg = stock_cfg(config)
    plain, video = build_plain(cfg), build_video(cfg)
    video.load_state_dict(plain.state_dict(), strict=False)
    clip = make_video(1, HEIGHT, WIDTH) * 3
    (expected,) = detect(plain, [{"image": clip[0]}])
    assert min(len(value) for value in expected.values()) > 4
    for got in detect(video, stream(clip)):
        assert_same(got, expected)


def test_with_a_closed_gate_a_trained_detector_gives_exactly_its_old_output(config):
    """Whatever the flow does: one new frame at a time, so that the backbone sees equal batches."""
    cfg = stock_cfg(config, "MODEL.IFF.GATE", True, "TEST.VIDEO.CAUSAL", True)
    plain, video = build_plain(cfg), build_video(cfg)
    video.load_state_dict(plain.state_dict(), strict=False)
    randomise_flow(video)
    clip = make_video(3, HEIGHT, WIDTH)
    expected = detect(plain, [{"image": image} for image in clip])
    for got, old in zip(detect(video, stream(clip, (-2, -1))), expected, strict=True):
        assert list(got) == list(old)
        assert all(torch.equal(got[name], value) for name, value in old.items())
    for gate in video.temporal.gates.values():
        torch.nn.init.constant_(gate, 0.5)
    opened = detect(video, stream(clip, (-2, -1)))[2]
    assert any(not torch.equal(opened[name], x) for name, x in expected[2].items() if len(x) > 2)


def test_a_frozen_detector_keeps_weights_and_statistics(config):
    cfg = stock_cfg(config, "MODEL.IFF.FREEZE_DETECTOR", True, "MODEL.IFF.GATE", True)
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    if cfg.MODEL.RESNETS.NORM == "FrozenBN":
        cfg.MODEL.RESNETS.NORM = "BN"
    video = build_video(cfg).train()
    before = {name: x.clone() for name, x in video.state_dict().items()}
    clip = make_video(4, HEIGHT, WIDTH)
    optimizer = torch.optim.SGD([p for p in video.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):  # what is behind the gate learns only once it is open
        with EventStorage(0):
            losses = video([training_sample(clip, 1, (-1, 2))])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    changed = {name for name, x in video.state_dict().items() if not torch.equal(x, before[name])}
    assert any(name.startswith("temporal.gates.") for name in changed)
    assert any(".flow_estimator." in name for name in changed)
    assert not [name for name in changed if not name.startswith("temporal.")]
    assert all(
        p.requires_grad == name.startswith("temporal.") for name, p in video.named_parameters()
    )


def load(checkpointer, path) -> tuple[set[str], set[str]]:
    """Load a file and return the names that it lacked and those that were not wanted."""
    reported = []
    checkpointer._log_incompatible_keys = reported.append
    checkpointer.load(str(path))
    (incompatible,) = reported
    return set(incompatible.missing_keys), set(incompatible.unexpected_keys)


def test_checkpoints_go_both_ways(config, tmp_path):
    cfg = stock_cfg(config)
    plain, video = build_plain(cfg, seed=1), build_video(cfg, seed=2)
    saved = {name: x.clone() for name, x in plain.state_dict().items()}
    temporal = video.state_dict().keys() - saved.keys()
    assert temporal
    assert all(name.startswith("temporal.") for name in temporal)

    DetectionCheckpointer(plain, str(tmp_path)).save("plain")
    assert load(VideoCheckpointer(video), tmp_path / "plain.pth") == (temporal, set())
    assert all(torch.equal(video.state_dict()[name], x) for name, x in saved.items())

    VideoCheckpointer(video, str(tmp_path)).save("video")
    other = build_plain(cfg, seed=3)
    assert load(DetectionCheckpointer(other), tmp_path / "video.pth") == (set(), temporal)
    assert all(torch.equal(other.state_dict()[name], x) for name, x in saved.items())


def test_the_table_covers_what_detectron2_has():
    """Eight stock files and more, each kind of backbone and head among them."""
    files = [STOCK / f"{name}.yaml" for name in CONFIGS if name != "FCOS"]
    assert len(files) >= 8
    assert all(file.is_file() for file in files)
