import json

import pytest
import torch
from detectron2.structures import Boxes, Instances

from iff_detectron2.inference.frame_output import FrameOutput
from iff_detectron2.inference.journal import Journal
from iff_detectron2.structures import Detections

RUN = {"source": {"file": "a.mp4", "bytes": 10}, "config": "abc"}


def result(frame, count=2, bridged=None):
    instances = Instances((48, 64))
    instances.pred_boxes = Boxes(torch.arange(4.0 * count).reshape(count, 4) / 3 + frame)
    instances.scores = torch.linspace(0.1, 0.9, count)
    instances.pred_classes = torch.arange(count)
    return frame, FrameOutput(Detections.from_instances([(frame, instances)])), bridged


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "journal.jsonl"


def written(path, *results):
    with Journal(path, RUN) as journal:
        for r in results:
            journal.append(*r)


def test_what_is_appended_is_there_again_to_the_last_bit(path):
    results = [result(0), result(1, count=0), result(2, bridged="broken")]
    written(path, *results[:2])
    with Journal(path, RUN) as journal:
        assert journal.num_frames == 2
        journal.append(*results[2])
        assert journal.bridged == {2: "broken"}
        detections = journal.detections()
    assert detections.frames.tolist() == [0, 0, 2, 2]
    for name in ("boxes", "scores"):
        expected = [
            value for _, found, _ in results for value in getattr(found.detections, name).tolist()
        ]
        assert getattr(detections, name).tolist() == expected
    assert detections.classes.tolist() == [0, 1, 0, 1]


def test_an_empty_journal(path):
    with Journal(path, RUN) as journal:
        assert journal.num_frames == 0
        assert len(journal.detections()) == 0


def test_a_line_is_safe_before_the_file_is_closed(path):
    journal = Journal(path, RUN)
    journal.append(*result(0))
    assert len(path.read_text().splitlines()) == 2
    journal.close()


@pytest.mark.parametrize("cut", [1, 10, 10_000])
def test_a_torn_last_line_is_cut_off(path, cut):
    written(path, result(0), result(1))
    whole = path.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    path.write_bytes(whole[: -min(cut, last - 1)])
    with Journal(path, RUN) as journal:
        assert journal.num_frames == 1
        journal.append(*result(1))
    assert path.read_bytes() == whole


def test_a_torn_first_line_begins_anew(path):
    path.parent.mkdir()
    path.write_text('{"format": "iff')
    written(path, result(0))
    with Journal(path, RUN) as journal:
        assert journal.num_frames == 1


def test_damage_inside_is_an_error(path):
    written(path, result(0), result(1))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0] + "{damage\n" + lines[2])
    with pytest.raises(ValueError, match=r"journal\.jsonl, line 2 is damaged"):
        Journal(path, RUN)
    path.write_text(lines[0] + lines[2])
    with pytest.raises(ValueError, match="line 2: frame 0 was expected, not 1"):
        Journal(path, RUN)


def test_another_run_is_an_error(path):
    written(path, result(0))
    with pytest.raises(ValueError, match="a run with another config; choose another"):
        Journal(path, {**RUN, "config": "other"})
    path.write_text(json.dumps({"something": "else"}) + "\n")
    with pytest.raises(ValueError, match=r"another config and format and .*source"):
        Journal(path, RUN)


def test_frames_come_in_order(path):
    with Journal(path, RUN) as journal, pytest.raises(ValueError, match="frame 0 is next, got 1"):
        journal.append(*result(1))


def test_the_end_is_noted(path):
    written(path, result(0))
    with Journal(path, RUN) as journal:
        assert not journal.complete
        journal.finish()
    with Journal(path, RUN) as journal:
        assert journal.complete
        assert journal.detections().frames.tolist() == [0, 0]


def test_the_last_frame_that_was_read(path):
    with Journal(path, RUN) as journal:
        for t, reason in enumerate(["bad", None, None, "bad", "bad", None]):
            journal.append(*result(t, bridged=reason))
        assert [journal.last_read_before(t) for t in range(7)] == [0, 0, 1, 2, 2, 2, 5]
