import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from video_runs import command, make_frames, write_frames

from iff_detectron2.video.reader import VideoFile
from iff_detectron2_cli import predict
from iff_detectron2_cli.main import main

PROGRAM = [sys.executable, "-m", "iff_detectron2_cli"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights, a folder of 40 frames and the same frames as a video without loss."""
    folder = tmp_path_factory.mktemp("predict")
    frames = make_frames(40)
    write_frames(folder / "clip", frames)
    writer = cv2.VideoWriter(
        str(folder / "clip.avi"), cv2.VideoWriter.fourcc(*"FFV1"), 10, (72, 48)
    )
    for frame in frames:
        writer.write(frame)
    writer.release()
    return folder


def predictions(output):
    return json.loads((output / "predictions.json").read_text())


def wait_for_lines(path, count, process):
    while not path.is_file() or path.read_bytes().count(b"\n") <= count:
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.002)


def test_a_folder_and_a_video_with_the_same_pixels_give_the_same(folder, capsys):
    short = ("TEST.VIDEO.NUM_REFS", 2)
    for name in ("clip", "clip.avi"):
        arguments = ("--input", folder / name, "--output", folder / f"of_{name}", "--no-video")
        assert main(["predict", *command(folder, *arguments, opts=short)]) == 0
    assert predictions(folder / "of_clip") == predictions(folder / "of_clip.avi")
    assert "40 frames: " in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
def test_killed_and_started_again_it_ends_with_the_same_files(folder, capsys):
    arguments = command(folder, "--input", folder / "clip", "--output", folder / "killed")
    with subprocess.Popen([*PROGRAM, "predict", *arguments]) as process:
        wait_for_lines(folder / "killed" / "journal.jsonl", 8, process)
        process.send_signal(signal.SIGKILL)
    done = (folder / "killed" / "journal.jsonl").read_bytes().count(b"\n") - 1
    assert 8 <= done < 40
    assert not (folder / "killed" / "predictions.json").exists()
    assert main(["predict", *arguments]) == 0
    assert f"{done} frames are done already" in capsys.readouterr().out
    whole = command(folder, "--input", folder / "clip", "--output", folder / "whole")
    assert main(["predict", *whole]) == 0
    for name in ("predictions.json", "run.json"):
        assert (folder / "killed" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    # WebM gives each file a random number of its own: the pictures are compared.
    killed, whole = (VideoFile(folder / k / "annotated.webm") for k in ("killed", "whole"))
    assert len(killed) == len(whole) == 40
    for a, b in zip(killed.frames(), whole.frames(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not list((folder / "killed").glob(".annotated.*"))


def test_ctrl_c_ends_after_the_frame_and_keeps_what_is_done(folder, capsys, monkeypatch):
    from iff_detectron2.inference.journal import Journal

    append = Journal.append

    def interrupted(self, frame, *result):
        append(self, frame, *result)
        if frame == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Journal, "append", interrupted)
    before = signal.getsignal(signal.SIGINT)
    output = folder / "interrupted"
    arguments = command(folder, "--input", folder / "clip", "--output", output)
    assert main(["predict", *arguments]) == 130
    assert signal.getsignal(signal.SIGINT) is before
    assert {d["frame_index"] for d in predictions(output)} == set(range(5))
    assert json.loads((output / "run.json").read_text())["complete"] is False
    assert len(VideoFile(output / "annotated.webm")) == 5
    assert "the same command goes on" in capsys.readouterr().out


def test_the_second_ctrl_c_ends_at_once():
    with predict.Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_restart_begins_anew(folder, tmp_path, capsys):
    write_frames(tmp_path / "two", make_frames(2))
    write_frames(tmp_path / "three", make_frames(3))
    for name in ("two", "three"):
        arguments = ("--input", tmp_path / name, "--output", tmp_path / "out", "--no-video")
        code = main(["predict", *command(folder, *arguments)])
    assert code == 2
    assert "a run with another source" in capsys.readouterr().err
    assert main(["predict", *command(folder, *arguments, "--restart")]) == 0
    assert {d["frame_index"] for d in predictions(tmp_path / "out")} == {0, 1, 2}


def test_what_is_no_video_is_one_sentence(folder, tmp_path, capsys):
    assert main(["predict", *command(folder, "--input", tmp_path / "nothing")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("iff-detectron2 predict: ")
    assert "no video file" in error
