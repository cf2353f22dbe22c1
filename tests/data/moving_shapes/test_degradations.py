"""How often deteriorations come."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from iff_detectron2.data.moving_shapes.degradations import OBJECT_KINDS, active_run, schedule_runs


@pytest.mark.parametrize("severity", [0.5, 1.0, 2.0])
def test_runs_are_brief_apart_and_as_frequent_as_asked(severity: float) -> None:
    runs = schedule_runs(
        np.random.default_rng(0), num_frames=60000, severity=severity, kinds=OBJECT_KINDS
    )
    share = sum(run.length for run in runs) / 60000
    assert share == pytest.approx(0.31 * severity, abs=0.06 * severity)
    assert {run.length for run in runs} == {1, 2, 3, 4, 5}
    assert {run.kind for run in runs} == set(OBJECT_KINDS)
    for before, after in itertools.pairwise(runs):
        assert after.start > before.start + before.length


def test_no_runs_without_severity() -> None:
    rng = np.random.default_rng(0)
    assert schedule_runs(rng, num_frames=1000, severity=0, kinds=OBJECT_KINDS) == []


def test_active_run() -> None:
    runs = schedule_runs(np.random.default_rng(1), num_frames=50, severity=1, kinds=("noise",))
    for frame in range(50):
        expected = [r for r in runs if frame in range(r.start, r.start + r.length)]
        assert active_run(runs, frame) == (expected[0] if expected else None)
