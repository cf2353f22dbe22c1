"""CVAT for video 1.1, by a file as the tool writes it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from coded_video import write_coded_video
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from iff_detectron2.data import register_cvat_video, register_from_specs

pytestmark = pytest.mark.usefixtures("clean_catalogs")

XML = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>7</id> <name>my task</name> <size>6</size> <mode>interpolation</mode>
      <start_frame>0</start_frame> <stop_frame>5</stop_frame> <frame_filter></frame_filter>
      <labels>
        <label><name>dog</name><color>#b83df5</color><type>any</type><attributes></attributes></label>
        <label><name>cat</name><color>#34d1b7</color><type>any</type><attributes></attributes></label>
      </labels>
      <original_size><width>96</width><height>64</height></original_size>
      <source>clip.avi</source>
    </task>
    <dumped>2024-05-01 10:00:00+00:00</dumped>
  </meta>
  <track id="0" label="cat" source="manual">
    <box frame="1" keyframe="1" outside="0" occluded="0" xtl="4.5" ytl="6" xbr="24" ybr="30" z_order="0">
      <attribute name="colour">black</attribute>
    </box>
    <box frame="2" keyframe="0" outside="0" occluded="1" xtl="5.5" ytl="6" xbr="25" ybr="30" z_order="0"></box>
    <box frame="3" keyframe="1" outside="1" occluded="0" xtl="6.5" ytl="6" xbr="26" ybr="30" z_order="0"></box>
  </track>
  <track id="1" label="dog" source="manual">
    <box frame="2" keyframe="1" outside="0" occluded="0" xtl="30" ytl="10" xbr="50" ybr="20" rotation="90.0"
      z_order="0"></box>
    <polygon frame="3" keyframe="1" outside="0" occluded="0" points="1,1;5,1;5,5" z_order="0"></polygon>
  </track>
</annotations>
"""  # noqa: E501 - as CVAT writes it


@pytest.fixture(scope="module")
def film(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("film")
    write_coded_video(folder / "clip.avi", "MJPG", 6)
    return folder


@pytest.fixture
def load(tmp_path: Path):
    def load(root: Path, text: str = XML, **options) -> list[dict]:
        path = tmp_path / "annotations.xml"
        path.write_text(text)
        register_cvat_video("set", root, path, **options)
        return DatasetCatalog.get("set")

    return load


def boxes(dicts: list[dict]) -> dict[int, list]:
    return {
        d["frame_number"]: [
            (a["track_id"], a["category_id"], np.round(a["bbox"], 6).tolist())
            for a in d["annotations"]
        ]
        for d in dicts
    }


EXPECTED = {
    0: [],
    1: [(0, 1, [4.5, 6, 24, 30])],
    2: [(0, 1, [5.5, 6, 25, 30]), (1, 0, [35, 5, 45, 25])],  # 20 x 10 upright, turned by 90 degrees
    3: [],
    4: [],
    5: [],
}


def test_as_the_tool_writes_it(load, film: Path, caplog) -> None:
    with caplog.at_level("INFO", "iff_detectron2"):
        dicts = load(film)
    assert boxes(dicts) == EXPECTED
    assert dicts[1]["file_name"] == f"{film}/clip.avi#frame=1"
    assert (dicts[1]["video_id"], dicts[1]["width"], dicts[1]["height"]) == ("clip", 96, 64)
    assert MetadataCatalog.get("set").thing_classes == ["dog", "cat"]
    assert "left out 1 shapes that are no boxes (<polygon>) (first in " in caplog.text


def test_the_video_itself_and_the_spec(load, film: Path, tmp_path: Path) -> None:
    dicts = load(film / "clip.avi")
    spec = f"{film}/clip.avi@{tmp_path}/annotations.xml"
    register_from_specs([f"a=cvat_video:{spec}", f"b=cvat_video:{spec}@annotated_only@1-1"])
    assert DatasetCatalog.get("a") == dicts
    assert boxes(DatasetCatalog.get("b")) == {1: EXPECTED[1]}


def test_a_task_of_every_second_frame(load, film: Path) -> None:
    text = XML.replace("<start_frame>0<", "<start_frame>1<").replace(
        "<frame_filter></", "<frame_filter>step=2</"
    )
    dicts = load(film, text.replace('frame="2"', 'frame="3"', 1))
    assert [d["frame_number"] for d in dicts] == [1, 2, 3, 5]  # 2 has a box
    assert {d["video_length"] for d in dicts} == {6}


def test_images_that_cvat_saved_have_its_numbers(load, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(1, 6):  # the first was deleted
        image = Image.fromarray(np.zeros((64, 96, 3), np.uint8))
        image.save(tmp_path / f"images/frame_{number:06d}.PNG")
    dicts = load(tmp_path / "images")
    assert dicts[0]["file_name"].endswith("frame_000001.PNG")
    assert (dicts[0]["frame_number"], dicts[0]["frame_index"]) == (1, 0)
    assert boxes(dicts) == {k: v for k, v in EXPECTED.items() if k}


def test_other_images_are_counted_from_0(load, tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for number in range(1, 7):
        image = Image.fromarray(np.zeros((64, 96, 3), np.uint8))
        image.save(tmp_path / f"images/{number}.jpg")
    dicts = load(tmp_path / "images")
    assert dicts[1]["file_name"].endswith("/2.jpg")
    assert boxes(dicts) == EXPECTED


def test_a_task_that_is_longer_than_the_video(load, film: Path, caplog) -> None:
    load(film, XML.replace("<stop_frame>5<", "<stop_frame>8<"))
    assert "the task has frames up to 8, the video up to 5; is it the same video?" in caplog.text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('xtl="4.5" ', "", r"track '0', frame '1': <box> lacks the attribute 'xtl'"),
        ('xtl="4.5"', 'xtl="left"', r"track '0', frame '1': 'xtl' of <box> must be a number"),
        ('xtl="4.5"', 'xtl="1e999"', r"'xtl' of <box> must be finite"),
        ('frame="1"', 'frame="9"', r"frame 9 is outside of 'clip', which has 6 frames from 0 to 5"),
        ('frame="1"', 'frame="1.5"', "'frame' of <box> must be an integer, got '1.5'"),
        ('frame="2" keyframe="0"', 'frame="1"', "the track 0 has a second box in frame 1"),
        ('label="cat"', 'label="cow"', "the label 'cow' is none of the dataset's classes dog, cat"),
        ("</annotations>", "", r"annotations\.xml is not well-formed XML"),
        ("<annotations>", '<!DOCTYPE x [<!ENTITY a "b">]><annotations>', "it has a DOCTYPE"),
        ("<task>", "<project></project><was>", "well-formed"),
        ("</meta>", '</meta><image id="0" name="a.png"></image>', 'an export "CVAT for images"'),
    ],
)
def test_malformed_files(load, film: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load(film, XML.replace(old, new, 1))
    assert "annotations.xml" in str(caught.value)


def test_projects_are_refused_with_what_to_do(load, film: Path) -> None:
    text = XML.replace("<task>", "<project>").replace("</task>", "</project>")
    with pytest.raises(ValueError, match=r"a project, whose tasks count .* export each task"):
        load(film, text)


def test_no_video(load, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"has neither the video 'clip\.avi', nor a folder"):
        load(tmp_path / "empty")
