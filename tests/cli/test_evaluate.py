import json

import pytest

from iff_detectron2_cli.main import main


@pytest.fixture
def run(tiny_vid, tmp_path, clean_catalogs, request):
    """Two videos of a dog, its true boxes as predictions, and a runner of the verb."""
    root = tiny_vid(lengths=(6, 5))
    results = [
        {
            "image_id": row + 1,
            "video_id": f"train/video_{video}",
            "frame_index": frame,
            "category_id": 8,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": 0.75,
        }
        for row, (video, frame) in enumerate(
            [(0, t) for t in range(6)] + [(1, t) for t in range(5)]
        )
        for x1, y1, x2, y2 in [tiny_vid.box(video, frame)]
    ]
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(results))
    spec = f"{request.node.name}=imagenet_vid:{root}@VID_val_videos"

    def call(*arguments, predictions=path):
        return main(["evaluate", str(predictions), "--dataset", spec, *map(str, arguments)])

    call.path, call.results, call.name = path, results, request.node.name
    return call


def test_table_and_files(run, capsys):
    assert run("--area-ranges") == 0
    table = capsys.readouterr().out
    assert "Protocol: FGFA" in table
    assert "11 frames, 11 boxes to find, 11 detections" in table
    folder = run.path.with_name("predictions-fgfa")
    assert sorted(p.name for p in folder.iterdir()) == [
        "operating_point.json",
        "results.json",
        "results.txt",
    ]
    results = json.loads((folder / "results.json").read_text())
    assert results["dataset"] == run.name
    assert results["bbox"]["mAP50"] == 100.0
    assert results["bbox"]["mAP50-area-small"] == 100.0
    assert (folder / "results.txt").read_text() in table


def test_protocols_and_output(run, tmp_path, capsys):
    for protocol, title in (("devkit", "ILSVRC devkit"), ("coco", "COCO")):
        assert run("--protocol", protocol, "--output", tmp_path / protocol) == 0
        assert f"Protocol: {title}" in capsys.readouterr().out
        assert (
            json.loads((tmp_path / protocol / "results.json").read_text())["protocol"] == protocol
        )


@pytest.mark.slow
def test_report_of_two_runs(run, tmp_path, capsys):
    other = tmp_path / "other.json"
    other.write_text(json.dumps(run.results[::2]))
    assert run("--report", "--against", other, "--names", "one", "two") == 0
    assert "other.json: 5 of 11 frames" in capsys.readouterr().out
    page = (tmp_path / "predictions-fgfa" / "report.html").read_text(encoding="utf-8")
    assert "<th>A: one</th><th>B: two</th>" in page
    assert (tmp_path / "predictions-fgfa" / "figures" / "f1_curves_B.svg").is_file()


def test_text_form(run, tmp_path, capsys):
    path = tmp_path / "predictions.txt"
    lines = []
    for r in run.results:
        x, y, w, h = r["bbox"]
        lines.append(
            f"{r['image_id']} 9 {r['score']:.4f} {x:.2f} {y:.2f} {x + w:.2f} {y + h:.2f}\n"
        )
    path.write_text("".join(lines))
    assert run(predictions=path) == 0
    assert "100.00" in capsys.readouterr().out


def test_frames_without_detections_are_counted_or_refused(run, capsys):
    run.path.write_text(json.dumps(run.results[:3] + run.results[4:]))
    assert run() == 0
    output = capsys.readouterr().out
    assert "1 of 11 frames" in output
    assert "have no detection, first image_id 4, frame 3 of video 'train/video_0'" in output
    assert run("--all-frames") == 2
    assert "first image_id 4" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda r: json.dumps(r)[:500], "predictions.json, line 1, detection 4: the file is cut"),
        (lambda r: json.dumps([{**r[0], "score": float("nan")}]), "score nan is not a finite"),
        (lambda r: json.dumps(r[::-1]), "frames are out of order: frame 3 of video"),
        (lambda r: json.dumps([{**r[0], "category_id": 30}]), "category 30 is not one of"),
    ],
)
def test_bad_files_end_with_one_sentence(run, capsys, content, message):
    run.path.write_text(content(run.results))
    assert run() == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("iff-detectron2 evaluate: ")
    assert message in error
    assert not run.path.with_name("predictions-fgfa").exists()


def test_any_order(run, capsys):
    run.path.write_text(json.dumps(run.results[::-1]))
    assert run("--any-order") == 0


def test_mistakes_are_named(run, tmp_path, capsys):
    assert run(predictions=tmp_path / "none.json") == 2
    assert "there is no file" in capsys.readouterr().err
    assert main(["evaluate", str(run.path), "--dataset", "no_such"]) == 2
    assert "there is no dataset 'no_such'" in capsys.readouterr().err
    assert run("--names", "a", "b") == 2
    assert "add --report" in capsys.readouterr().err
    assert run("--protocol", "devkit", "--motion-iou-file", run.path) == 2
    assert "for protocol 'fgfa', not 'devkit'" in capsys.readouterr().err
