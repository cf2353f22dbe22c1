"""The page as a reader, and as an attacker with odd names, would find it."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from vid_cases import load, make_dicts, noisy, nothing, perfect

from iff_detectron2.evaluation.repairs import REPAIRS
from iff_detectron2.evaluation.report import provenance, score_run, write_report
from iff_detectron2.evaluation.report.worst_frames import draw_frame, worst_frames

NASTY = ["<script>alert('cat')</script>", '"><img src=//x.org/dog onerror=$a$>']
ALONE = {"img", "meta", "br"}


class Reader(HTMLParser):
    """Collects tags and text, and checks that every tag is closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._open = [], [], []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ALONE:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def images(self):
        for tag, attributes in self.tags:
            if tag == "img":
                kind, data = re.fullmatch(
                    r"data:image/(png|jpeg);base64,([A-Za-z0-9+/=]+)", attributes["src"]
                ).groups()
                array = np.frombuffer(base64.b64decode(data), np.uint8)
                yield kind, cv2.imdecode(array, cv2.IMREAD_COLOR)


def test_one_page_of_two_runs(clean_catalogs, dicts, tmp_path):
    name = "<b>odd & set</b>"
    for record in dicts:
        record["video_id"] += "<i>"
    dataset, bad = load(dicts, noisy, NASTY, name)
    _, good = load(dicts, perfect, NASTY, name + "2")
    runs = [
        score_run(run, dataset, detections, area_ranges=True)
        for run, detections in (("<u>first</u>", bad), ("_second", good))
    ]
    made = [("Command", "evaluate <x>")]
    path = write_report(tmp_path / "report", dataset, runs, num_worst=3, made=made)
    assert path == tmp_path / "report" / "report.html"
    page = Reader(path.read_text(encoding="utf-8"))

    # One script runs, that of the page by its hash, and nothing is loaded.
    tags = {tag for tag, _ in page.tags}
    assert tags & {"link", "iframe", "object", "u", "form"} == set()
    assert all("class" in attrs for tag, attrs in page.tags if tag == "i")  # bars, not names
    source = path.read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", source, re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    attributes = {key for _, attrs in page.tags for key in attrs}
    assert not [key for key in attributes if key.startswith("on") or key in ("href", "srcset")]
    policy = next(a["content"] for t, a in page.tags if a.get("http-equiv"))
    assert policy.startswith("default-src 'none'")
    assert re.search(r"script-src ([^;]*)", policy)[1] == f"'sha256-{digest}'"

    text = " ".join(page.text)
    for odd in (name, *NASTY, "<u>first</u>", "_second", "video0<i>"):
        assert odd in text
    assert "Protocol: FGFA" in text
    first, second = (run.result.metrics() for run in runs)
    assert f"{first['mAP50']:.2f} {second['mAP50']:.2f}" in re.sub(r"\s+", " ", text)
    # E4: what the difference is of, and which way is better, is told and coloured.
    # The sentence, the tables of metrics and of tracks, and one a range in that of the repairs.
    assert text.replace("\u00a0", " ").count("B - A") == 3 + 4
    assert "A: <u>first</u>" in text
    assert "B: _second" in text
    better = re.search(r'class="better">([+-][0-9.]+)<', source)[1]
    assert better == f"{second['mAP50'] - first['mAP50']:+.2f}"
    # Less delay and jitter is better too: no difference of a perfect run is worse.
    assert 'class="worse"' not in source
    assert source.count('class="better">-') >= 2
    assert "evaluate <x>" in text
    for kind, count in runs[0].errors.counts().items():
        assert re.search(rf"{kind}\s+{count}\b", text), kind

    for _, image in page.images():
        assert image.std() > 3  # something is drawn
    # Three worst frames by two runs, each with what is around it.
    clips = [attrs for tag, attrs in page.tags if tag == "video"]
    assert len(clips) == 6
    assert {attrs["poster"].partition(",")[0] for attrs in clips} == {"data:image/jpeg;base64"}
    figures = sorted(path.name for path in (tmp_path / "report" / "figures").iterdir())
    curves = ("f1_curves", "range_curves", "score_histograms")
    assert figures == [f"{name}_{letter}.svg" for name in curves for letter in "AB"]


def test_the_matrix_and_the_gains_are_those_of_the_run(clean_catalogs, tmp_path):
    dataset, detections = load(make_dicts(), noisy, ["cat", "dog"], "matrix")
    run = score_run("run", dataset, detections)
    text = write_report(tmp_path, dataset, [run]).read_text(encoding="utf-8")
    tips = re.findall(r'data-tip="(cat|dog) detected as (\w+): (\d+), ([\d.]+) %"', text)
    names = ("cat", "dog", "missed")
    expected = {
        (label, found, str(run.confusion[row, column]))
        for row, label in enumerate(names[:2])
        for column, found in enumerate(names)
    }
    assert {tip[:3] for tip in tips} == expected
    assert sum(float(tip[3]) for tip in tips if tip[0] == "cat") == pytest.approx(100, abs=0.2)
    rows = text[text.index("dAP50 (points)") :]
    for number, kind in enumerate(REPAIRS):
        gains = "".join(f"<td>{100 * gain:.2f}</td>" for gain in run.gains.values[number])
        assert f"<tr><td>{kind}</td>{gains}</tr>".replace("nan", "n/a") in rows


def test_nothing_detected_no_tracks_no_images(clean_catalogs, tmp_path):
    dicts = make_dicts()
    for record in dicts:
        for annotation in record["annotations"]:
            del annotation["track_id"]
    dataset, detections = load(dicts, nothing, ["cat", "dog"], "bare")
    run = score_run("run", dataset, detections)
    text = write_report(tmp_path, dataset, [run]).read_text(encoding="utf-8")
    assert "mAP50-slow is unavailable: track_id is missing in 20 of 20 annotations." in text
    assert "the frame cannot be read" in text
    assert "<video" not in text


def test_other_protocols_and_no_objects(clean_catalogs, tmp_path):
    dicts = make_dicts()
    for record in dicts:
        record["annotations"] = []
    dataset, detections = load(dicts, noisy, ["cat", "dog"], "empty")
    runs = [score_run(p, dataset, detections, p) for p in ("devkit", "coco")]
    text = write_report(tmp_path, dataset, runs[1:]).read_text(encoding="utf-8")
    assert "Protocol: COCO" in text
    assert "AP75" in text
    assert "No frame has an error." in text
    with pytest.raises(ValueError, match="'devkit' and 'coco' are scored by different protocols"):
        write_report(tmp_path, dataset, runs)
    with pytest.raises(ValueError, match="one or two runs, not 3"):
        write_report(tmp_path, dataset, [runs[0]] * 3)


def test_worst_frames(clean_catalogs, dicts):
    """Cats and dogs in frames 0-4 and 6-10; detections are missing or wrong in some."""

    def predict(record):
        missing = {2: 0, 3: 1, 9: 1}.get(record["image_id"], 2)
        output = perfect(record)
        return {"instances": output["instances"][: min(missing, len(output["instances"]))]}

    dataset, detections = load(dicts, predict, ["cat", "dog"], "worst")
    errors = score_run("run", dataset, detections).errors
    rows = worst_frames(errors, dataset.frames, 9)
    # Two missed in row 1; one each in rows 2 and 8: the other video goes before row 2.
    assert rows == [1, 8, 2]
    assert worst_frames(errors, dataset.frames, 1) == [1]
    picture = draw_frame(errors, dataset.frames[1], 1)
    assert picture.summary == "2 missed"
    assert draw_frame(errors, dataset.frames[8], 8).summary == "1 correct, 1 missed"
    image = cv2.imdecode(np.frombuffer(picture.picture, np.uint8), cv2.IMREAD_COLOR)
    # The cat, (10, 10) to (60, 50), is framed in purple: little green beside blue and red.
    edge = image[30 * 460 // 300, 10 * 460 // 300 - 2 : 10 * 460 // 300 + 3].astype(int)
    assert (edge[:, [0, 2]].min(axis=1) - edge[:, 1]).max() > 40


def test_frame_without_a_file(clean_catalogs, dicts):
    dataset, detections = load(dicts, nothing, ["cat", "dog"], "nofile")
    errors = score_run("run", dataset, detections).errors
    picture = draw_frame(errors, {"image_id": 1}, 0)
    assert picture.picture is None
    assert picture.problem == "the dataset has no file_name for this frame"


def test_the_foot_says_how_it_was_made(tmp_path):
    folder = tmp_path / "run" / "inference" / "set"
    folder.mkdir(parents=True)
    (folder / "predictions.json").write_text("[]")
    (tmp_path / "run" / "config.yaml").write_text("VERSION: 2\n")
    (tmp_path / "run" / "last_checkpoint").write_text("model_final.pth")
    (tmp_path / "run" / "model_final.pth").write_bytes(b"weights")
    made = dict(provenance("iff-detectron2 evaluate", [folder / "predictions.json"]))
    assert made["Command"] == "iff-detectron2 evaluate"
    assert hashlib.sha256(b"weights").hexdigest()[:12] in made["Weights"]
    assert hashlib.sha256(b"VERSION: 2\n").hexdigest()[:12] in made["Config"]
    assert hashlib.sha256(b"[]").hexdigest()[:12] in made["Boxes"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", made["Made"])
    (tmp_path / "run" / "last_checkpoint").unlink()
    (tmp_path / "run" / "config.yaml").unlink()
    two = dict(provenance("x", [folder / "predictions.json"] * 2))
    assert {"Boxes A", "Boxes B"} <= two.keys()
    assert not {"Config", "Weights"} & two.keys()


def test_the_page_fits_a_phone_and_the_dark(clean_catalogs, tmp_path):
    """No table is wider than its box, no column of pictures than the page."""
    dataset, detections = load(make_dicts(), noisy, ["cat", "dog"], "phone")
    path = write_report(tmp_path, dataset, [score_run("run", dataset, detections)])
    text = path.read_text(encoding="utf-8")
    assert text.count("<table") == text.count('<div class="wide"><table') > 3
    assert ".wide { overflow-x: auto; }" in text
    assert "minmax(min(300px, 100%), 1fr)" in text
    assert "@media (prefers-color-scheme: dark)" in text
