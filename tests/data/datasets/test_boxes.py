from __future__ import annotations

import logging

import pytest

from iff_detectron2.data.datasets.boxes import BoxCheck


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((1, 2, 3, 4), (1, 2, 3, 4)),
        ((0, 0, 64, 48), (0, 0, 64, 48)),
        ((-5, -1, 70, 50), (0, 0, 64, 48)),
        ((10, 10, 10, 20), (10, 10, 10, 20)),  # one pixel wide with inclusive corners
        ((30, 10, 20, 20), None),
        ((10, 30, 20, 20), None),
        ((64, 10, 80, 20), None),
        ((10, 48, 20, 60), None),
        ((-20, 10, -3, 20), None),
        ((-20, 10, 0, 20), None),
    ],
)
def test_clips_or_drops(box, expected) -> None:
    assert BoxCheck("set")(box, 64, 48, "file") == expected


def test_one_warning_with_counts_and_first_places(caplog: pytest.LogCaptureFixture) -> None:
    check = BoxCheck("my_set")
    check((-1, 0, 5, 5), 64, 48, "a.xml")
    check((-1, 0, 6, 5), 64, 48, "b.xml")
    check((9, 0, 5, 5), 64, 48, "c.xml")
    with caplog.at_level(logging.WARNING, "iff_detectron2.data.datasets.boxes"):
        check.warn()
    (record,) = caplog.records
    text = record.getMessage()
    assert text.startswith("my_set: 2 boxes")
    assert "a.xml" in text
    assert "b.xml" not in text
    assert "1 boxes without area" in text
    assert "c.xml" in text


def test_no_warning_without_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    check = BoxCheck("my_set")
    check((1, 1, 5, 5), 64, 48, "a.xml")
    with caplog.at_level(logging.WARNING):
        check.warn()
    assert caplog.records == []
