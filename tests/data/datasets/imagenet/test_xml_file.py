from __future__ import annotations

import time
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iff_detectron2.data.datasets.imagenet import xml_file as reader
from iff_detectron2.data.datasets.imagenet.xml_file import (
    XMLObject,
    _parse_plain,
    parse_xml,
    read_xml,
)

SIZE = "<size><width>64</width><height>48</height></size>"
BOX = "<bndbox><xmax>30</xmax><xmin>10</xmin><ymax>40</ymax><ymin>20</ymin></bndbox>"


@pytest.fixture
def xml_file(tmp_path: Path):
    def write(body: str) -> Path:
        path = tmp_path / "000000.xml"
        path.write_text(body)
        return path

    return write


def test_reads_a_file_as_the_dataset_writes_it(xml_file) -> None:
    annotation = read_xml(
        xml_file(
            "<annotation><folder>a</folder><filename>000000</filename><source>"
            f"<database>ILSVRC_2015</database></source>{SIZE}<object><trackid>2</trackid>"
            f"<name>n02084071</name>{BOX}<occluded>0</occluded><generated>1</generated></object>"
            f"<object><name>n02958343</name>{BOX}</object></annotation>"
        )
    )
    assert (annotation.width, annotation.height) == (64, 48)
    assert annotation.objects == (
        XMLObject("n02084071", (10, 20, 30, 40), 2),
        XMLObject("n02958343", (10, 20, 30, 40), None),
    )


def test_no_objects_is_a_frame_without_annotations(xml_file) -> None:
    assert read_xml(xml_file(f"<annotation>{SIZE}</annotation>")).objects == ()


def _with_object(content: str) -> str:
    return f"<annotation>{SIZE}<object>{content}</object></annotation>"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (f"<annotation>{SIZE}", "not well-formed XML"),
        ("", "not well-formed XML"),
        ("<annotation></annotation>", "no <size>"),
        ("<annotation><size><width>64</width></size></annotation>", "no <height> in a <size>"),
        (
            "<annotation><size><width>0</width><height>48</height></size></annotation>",
            "<width> 0; expected an integer of at least 1",
        ),
        (_with_object(BOX), "no <name> in a <object>"),
        (_with_object("<name>n1</name>"), "<object> without <bndbox>"),
        (_with_object("<name>n1</name>" + BOX.replace("10", "")), "no <xmin> in a <bndbox>"),
        (_with_object("<name>n1</name>" + BOX.replace("10", "ten")), "<xmin> 'ten'"),
        (_with_object("<name>n1</name>" + BOX.replace("10", "nan")), "<xmin> 'nan'"),
        (_with_object("<trackid>1.5</trackid><name>n1</name>" + BOX), "<trackid> 1.5"),
    ],
)
def test_malformed_files_are_named(xml_file, body: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"000000\.xml .*{message}"):
        read_xml(xml_file(body))


def test_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.xml does not exist; check"):
        read_xml(tmp_path / "gone.xml")


NAMES = st.sampled_from(["n02084071", "disc", "a&amp;b", "\u00e9", "x y", ""])
NUMBERS = st.one_of(
    st.integers(-5, 3000).map(str), st.sampled_from(["1.5", " 7 ", "1e3", "+4", "", "x", "9" * 12])
)
OBJECTS = st.tuples(
    st.sampled_from(["", "<trackid>3</trackid>", "<trackid> 0 </trackid>", "<trackid/>"]),
    NAMES,
    st.permutations(["xmin", "xmax", "ymin", "ymax"]),
    st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    st.sampled_from(["", "<occluded>0</occluded>\n", "<pose>Left</pose>", "<!-- c -->"]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(OBJECTS, max_size=3), NUMBERS, st.sampled_from(["", "\n\t"]))
def test_quick_way_says_what_the_parser_says(objects, width: str, space: str) -> None:
    body = "".join(
        f"<object>{space}{track}<name>{name}</name>{space}<bndbox>"
        + space.join(f"<{tag}>{n}</{tag}>" for tag, n in zip(tags, numbers, strict=True))
        + f"</bndbox>{space}{rest}</object>{space}"
        for track, name, tags, numbers, rest in objects
    )
    data = (
        f"<annotation>{space}<folder>f</folder>{space}<size><width>{width}</width>{space}"
        f"<height>48</height></size>{space}{body}</annotation>{space}"
    ).encode()
    quick = _parse_plain(data)
    if quick is not None:
        with mock.patch.object(reader, "_parse_plain", return_value=None):
            assert parse_xml(data, "f.xml") == quick


SPACES, LONG = " " * 200_000, "1" * 200_000


@pytest.mark.parametrize(
    "body",
    [
        f"{SPACES}<!-- c -->{SIZE}",  # X3: 2000 spaces took a minute
        f"<folder>{SPACES}",
        f"<folder>a</folder>{SPACES}<filename>b</filename>{SPACES}<source>{SPACES}",
        f"<size>{SPACES}<width>{SPACES}<height>",
        f"{SIZE}{SPACES}<object>{SPACES}<name>{SPACES}",
        f"{SIZE}<object><name>{LONG}{SPACES}</nam>",
        f"{SIZE}<object><name>a</name><bndbox><xmax>{SPACES}1{SPACES}<xmin>",
        f"{SIZE}<object><name>a</name>{BOX}{'<occluded>0</occluded>' * 20_000}",
        f"{SIZE}<object><name>a</name>{BOX}<occluded>{SPACES}<{SPACES}",
        f"{SIZE}<object><name>a</name>{BOX.replace('10', LONG)}</object>",
        f"{SIZE}{'<object>' * 50_000}",
        f"{SIZE}{'> <' * 50_000}",
        "<a>" * 100_000,
        f"{SIZE}{'<a>' * 100_000}{'</a>' * 100_000}",
    ],
)
def test_time_is_linear(body: str) -> None:
    data = f"<annotation>{body}</annotation>".encode()
    began = time.process_time()
    try:
        parse_xml(data, "f.xml")
    except ValueError as error:
        assert "f.xml" in str(error)  # noqa: PT017
    assert time.process_time() - began < 1


def test_usual_files_need_no_parser() -> None:
    for scene in (
        "<annotation><size><width>64</width><height>48</height></size></annotation>",
        "<annotation>\n\t<folder>a</folder>\n\t<filename>000000</filename>\n\t<source>\n\t\t"
        f"<database>ILSVRC_2015</database>\n\t</source>\n\t{SIZE}\n\t<object>\n\t\t<trackid>0"
        f"</trackid>\n\t\t<name>n02084071</name>\n\t\t{BOX}\n\t\t<occluded>0</occluded>\n\t\t"
        "<generated>0</generated>\n\t</object>\n</annotation>\n",
        f"<annotation>{SIZE}<object><name>n02084071</name><bndbox><xmin>1</xmin><xmax>2</xmax>"
        "<ymin>3</ymin><ymax>4</ymax></bndbox></object></annotation>",
    ):
        assert _parse_plain(scene.encode()) is not None
