"""The verb `postprocess`: predictions in, rescored predictions and tracks out."""

from __future__ import annotations

import csv
import json

import pytest
from postprocessing.random_videos import random_video, to_detections

from iff_detectron2.postprocessing import SeqNMSOptions, rescore_detections
from iff_detectron2_cli.main import main

VIDEOS = {"train/video_0": 6, "train/video_1": 5, "train/video_2": 6}


def make_results():
    """Return saved predictions of three random videos, categories 1 and 2, in order of frame."""
    results = []
    for number, (video_id, length) in enumerate(VIDEOS.items()):
        detections = random_video(number, num_frames=length, num_tracks=6, levels=0)
        for detection in sorted(detections, key=lambda d: d["frame"]):
            x1, y1, x2, y2 = detection["box"]
            results.append(
                {
                    "image_id": 1 + detection["frame"] + [0, 6, 11][number],
                    "video_id": video_id,
                    "frame_index": detection["frame"],
                    "category_id": detection["class"] + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": detection["score"],
                }
            )
    return results


@pytest.fixture
def run(tmp_path):
    """Return a runner of the verb on `make_results()` or other results; output is
    `tmp_path/out.json`."""

    def call(*arguments, results=None):
        path = tmp_path / "predictions.json"
        path.write_text(json.dumps(make_results() if results is None else results))
        return main(["postprocess", str(path), str(tmp_path / "out.json"), *map(str, arguments)])

    return call


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((), SeqNMSOptions()),
        (
            (
                *("--variant", "seq_nms", "--rescore", "max", "--link-iou", 0.4),
                *("--nms-iou", 0.5, "--min-path-score", 0.1, "--workers", 3),
            ),
            SeqNMSOptions("seq_nms", 0.4, 0.5, "max", 0.1),
        ),
    ],
)
def test_equals_seq_nms_of_each_video(run, tmp_path, capsys, arguments, options):
    assert run(*arguments) == 0
    expected = []
    for number, (video_id, length) in enumerate(VIDEOS.items()):
        detections = random_video(number, num_frames=length, num_tracks=6, levels=0)
        detections = sorted(detections, key=lambda d: d["frame"])
        rescored, rows = rescore_detections(to_detections(detections), options)
        expected += [
            (video_id, detections[row]["frame"], *detections[row]["box"], score, track)
            for row, score, track in zip(rows, rescored.scores, rescored.track_ids, strict=True)
        ]
    got = [
        (
            *(result["video_id"], result["frame_index"], x, y, x + width, y + height),
            *(result["score"], result.get("track_id", -1)),
        )
        for result in json.loads((tmp_path / "out.json").read_text())
        for x, y, width, height in [result["bbox"]]
    ]
    assert got == expected
    assert f"3 videos, {len(make_results())} detections: {len(got)} stay" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["tracks.json", "tracks.csv", "tracks"])
def test_tracks(run, tmp_path, capsys, name):
    assert run("--tracks", tmp_path / name) == 0
    said = capsys.readouterr().out
    results = json.loads((tmp_path / "out.json").read_text())
    expected = sorted(
        (r["video_id"], r["track_id"], r["frame_index"]) for r in results if "track_id" in r
    )
    assert len(expected) > 15
    count = len({track[:2] for track in expected})
    assert f"{count} tracks written to {tmp_path / name}." in said
    if name == "tracks.json":
        content = json.loads((tmp_path / name).read_text())
        got = [(r["video_id"], r["track_id"], r["frame_index"]) for r in content]
    elif name == "tracks.csv":
        with (tmp_path / name).open(newline="") as stream:
            got = [
                (row["video_id"], int(row["track_id"]), int(row["frame_index"]))
                for row in csv.DictReader(stream)
            ]
    else:
        got = [
            (path.stem.replace("train_", "train/"), int(line[1]), int(line[0]) - 1)
            for path in (tmp_path / name).iterdir()
            for line in csv.reader(path.read_text().splitlines())
        ]
    assert sorted(got) == expected


def test_tracks_over_a_score(run, tmp_path, capsys):
    """E2: the tracks that were written are counted, not those that were found."""
    scores = {}
    for least in (0.0, 0.5):
        assert run("--tracks", tmp_path / "t.json", "--track-score", least) == 0
        boxes = {}
        for result in json.loads((tmp_path / "t.json").read_text()):
            boxes.setdefault((result["video_id"], result["track_id"]), []).append(result["score"])
        scores[least] = {track: sum(of) / len(of) for track, of in boxes.items()}
        assert f"\n{len(boxes)} tracks written to" in capsys.readouterr().out
    assert scores[0.5] == {track: s for track, s in scores[0.0].items() if s >= 0.5}
    assert 0 < len(scores[0.5]) < len(scores[0.0])


def test_dataset_names_the_classes_and_is_checked(run, tiny_vid, tmp_path, capsys, clean_catalogs):
    root = tiny_vid(lengths=tuple(VIDEOS.values()))
    spec = f"of_postprocess=imagenet_vid:{root}@VID_val_videos"
    results = [{**r, "category_id": r["category_id"] - 1} for r in make_results()]
    tracks = tmp_path / "t.csv"
    assert run("--dataset", spec, "--tracks", tracks, results=results) == 0
    with tracks.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["category"] for row in rows} == {"airplane", "antelope"}
    rescored = (tmp_path / "out.json").read_text()

    # FGFA's text form has no videos and counts classes from 1.
    lines = [
        f"{r['image_id']} {r['category_id'] + 1} {r['score']!r} "
        + " ".join(str(v) for v in (x, y, x + width, y + height))
        for r in results
        for x, y, width, height in [r["bbox"]]
    ]
    (tmp_path / "predictions.txt").write_text("\n".join(lines) + "\n")
    arguments = ["postprocess", str(tmp_path / "predictions.txt"), str(tmp_path / "text.json")]
    assert main([*arguments, "--dataset", spec]) == 0
    assert (tmp_path / "text.json").read_text() == rescored
    assert main(arguments) == 2
    assert "FGFA's text form does not name videos" in capsys.readouterr().err

    results[5]["category_id"] = 77
    assert run("--dataset", spec, results=results) == 2
    error = capsys.readouterr().err
    assert f"image_id {results[5]['image_id']} (frame {results[5]['frame_index']} of" in error
    assert "category 77 is not one of the dataset's: 0, 1, 2" in error
    results[5].update(category_id=0, image_id=99)
    assert run("--dataset", spec, results=results) == 2
    assert "image_id 99: this frame is not in the dataset" in capsys.readouterr().err


def change(row, **values):
    def edit(results):
        results[row].update(values)

    return edit


def swap_frames(results):
    results[0], results[-1] = results[-1], results[0]


def drop_a_frame(results):
    frames = sorted({r["frame_index"] for r in results if r["video_id"] == "train/video_0"})
    results[:] = [
        r for r in results if (r["video_id"], r["frame_index"]) != ("train/video_0", frames[1])
    ]


@pytest.mark.parametrize(
    ("edit", "arguments", "message"),
    [
        (change(4, score=float("nan")), (), "detection 4, image_id 1: score nan is not a finite"),
        (change(4, score=1.25), (), "(frame 0 of video 'train/video_0'): score 1.25 is outside"),
        (change(4, bbox=[5, 5, 0, 5]), (), "detection 4, image_id 1: box [5.0, 5.0, 5.0, 10.0]"),
        (change(4, bbox=[5, 5, 5, -1]), (), "has a width or height of zero or less"),
        (change(4, frame_index=3), (), "out of order: frame 0 of video 'train/video_0' comes"),
        (change(4, video_id=None), (), "image_id 1: the detections have no video_id"),
        (swap_frames, (), "out of order: video 'train/video_2' goes on after another video"),
        (drop_a_frame, ("--all-frames",), "of video 'train/video_0' has no detection"),
        (None, ("--link-iou", 0), "link_iou is 0.0; it must be in (0, 1]"),
        (None, ("--tracks", "t.xml"), "t.xml: tracks are written as .json, .csv or .txt"),
        (None, ("--workers", 0), "--workers is 0; it must be at least 1"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(run, tmp_path, capsys, edit, arguments, message):
    results = make_results()
    if edit is not None:
        edit(results)
    assert run(*arguments, results=results) == 2
    error = capsys.readouterr().err
    assert message in error
    assert not (tmp_path / "out.json").exists()


def test_frames_without_detections_are_noted(run, capsys):
    results = make_results()
    drop_a_frame(results)
    assert run(results=results) == 0
    assert "have no detection, first frame 1 of video 'train/video_0'" in capsys.readouterr().out


def test_a_file_that_is_cut_off_and_one_that_is_not_there(tmp_path, capsys):
    text = json.dumps(make_results())
    path, out = tmp_path / "predictions.json", tmp_path / "out.json"
    path.write_text(text[: len(text) // 2])
    assert main(["postprocess", str(path), str(out)]) == 2
    error = capsys.readouterr().err
    assert f"{path}, line 1, detection" in error
    assert "the file is cut off" in error
    assert sorted(tmp_path.iterdir()) == [path]
    assert main(["postprocess", str(tmp_path / "no.json"), str(out)]) == 2
    assert "there is no file" in capsys.readouterr().err
    assert main(["postprocess", str(path), str(tmp_path / "out.txt")]) == 2
    assert "results are written as .json" in capsys.readouterr().err
