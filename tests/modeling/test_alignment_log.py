import logging

import pytest
import torch
from detectron2.utils.events import EventStorage
from toy_models import build, make_video, tiny_cfg, training_sample

from iff_detectron2.modeling.alignment_log import LOG_PERIOD, share_outside


@pytest.mark.parametrize(
    ("dx", "dy", "outside"),
    [
        # A map of 4 x 3 cells; a sample less than one cell beyond the edge still sees the last one.
        (0.0, 0.0, 0.0),
        (0.9, 0.9, 0.0),
        (1.0, 0.0, 1 / 4),
        (0.0, -1.5, 1 / 3),
        (-2.5, 0.0, 2 / 4),
        (3.0, 2.0, 11 / 12),
        (float("nan"), 0.0, 1.0),
        (float("inf"), 0.0, 1.0),
    ],
)
def test_share_outside_by_hand(dx, dy, outside):
    flow = torch.tensor([dx, dy]).view(1, 2, 1, 1).expand(2, 2, 3, 4)
    assert share_outside(flow).item() == pytest.approx(outside)


def train_at(model, *iterations):
    video = make_video(2)
    sample = training_sample(video, 0, [1], [[8, 8, 40, 40]], [1])
    with EventStorage(0) as storage:
        for iteration in iterations:
            storage.iter = iteration
            model([sample])
        return {name: value for name, (value, _) in storage.latest().items()}


@pytest.mark.parametrize("dx", [0.0, 500.0])
def test_a_flow_that_leaves_the_map_is_told_once_with_the_key_to_set(dx, caplog):
    model = build(tiny_cfg("MODEL.IFF.TRL.ENABLED", False)).train()
    (bias,) = (p for n, p in model.named_parameters() if n.endswith("flow_estimator.flow.bias"))
    with torch.no_grad():
        bias[0] = dx
    with caplog.at_level(logging.WARNING, logger="iff_detectron2"):
        latest = train_at(model, LOG_PERIOD - 2)
        assert not caplog.records
        assert "iff/mean_flow" not in latest
        latest = train_at(model, LOG_PERIOD - 1, 2 * LOG_PERIOD - 1)
    assert latest["iff/mean_flow"] == dx
    assert latest["iff/outside"] == (1 if dx else 0)
    if not dx:
        assert not caplog.records
        return
    (said,) = (record.getMessage() for record in caplog.records)
    assert said.startswith(f"Iteration {LOG_PERIOD - 1}: the flow leads 100% of the cells out of")
    assert "MODEL.IFF.FLOW.LR_FACTOR" in said
