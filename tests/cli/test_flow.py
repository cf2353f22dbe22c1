import cv2
import pytest
from video_runs import command, make_frames, write_frames

from iff_detectron2_cli.main import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flow")
    write_frames(folder / "clip", make_frames(7))
    return folder


def run(folder, *arguments, opts=()):
    output = folder / "panel.png"
    output.unlink(missing_ok=True)
    source = ("--input", folder / "clip", "--output", output)
    return main(["flow", *command(folder, *source, *arguments, opts=opts)]), output


def test_panel_errors_and_self_check(folder, capsys):
    code, output = run(folder, "--frame", 3, "--rows", 3)
    assert code == 0
    said = capsys.readouterr().out
    assert "self-check, zero flow is the identity: warp differs by 0," in said
    assert said.count("passed") == 1
    assert said.splitlines()[-1].startswith("alignment ")
    offsets = [line.split()[0] for line in said.splitlines() if line.strip()[:1] in "+-"]
    assert offsets == ["-2", "-1", "+1", "+2"]
    rows_of_3 = cv2.imread(str(output)).shape[0]
    run(folder, "--frame", 3, "--rows", 1)
    assert rows_of_3 > 2 * cv2.imread(str(output)).shape[0]


def test_the_first_frame_of_a_causal_window_has_no_ref(folder, capsys):
    code, _ = run(folder, "--frame", 0, opts=("TEST.VIDEO.CAUSAL", True))
    assert code == 2
    assert "has no neighbour" in capsys.readouterr().err


def test_a_frame_beyond_the_end_is_an_error(folder, capsys):
    for frame in (7, 9999):
        assert run(folder, "--frame", frame)[0] == 2
        said = f"clip has 7 frames, numbered from 0: there is no frame {frame}"
        assert said in capsys.readouterr().err


def test_a_detector_without_flow_is_an_error(folder, capsys):
    opts = ("MODEL.IFF.AGGREGATOR", "AverageAggregator", "MODEL.ALLOW_MISSING_WEIGHTS", True)
    assert run(folder, "--frame", 3, opts=opts)[0] == 2
    assert "does not align" in capsys.readouterr().err
