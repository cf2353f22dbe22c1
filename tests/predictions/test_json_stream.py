from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iff_detectron2.predictions import json_stream
from iff_detectron2.predictions.json_stream import iterate_json_array

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
LISTS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=6)


@pytest.fixture
def chunk(monkeypatch):
    return lambda size: monkeypatch.setattr(json_stream, "CHUNK_CHARACTERS", size)


@settings(max_examples=60, deadline=None)
@given(LISTS, st.sampled_from([None, 1]), st.booleans(), st.sampled_from([1, 3, 50, 1 << 20]))
def test_reads_what_json_reads(tmp_path_factory, values, indent, ascii_only, size):
    path = tmp_path_factory.mktemp("json") / "list.json"
    path.write_text(json.dumps(values, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK_CHARACTERS", size)
        assert list(iterate_json_array(path)) == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_cut_anywhere_is_an_error(tmp_path, chunk, size):
    chunk(size)
    whole = json.dumps([{"a": [1, 2.5], "b": "x}, {"}, {"a": [], "b": True}], indent=1)
    for end in range(len(whole)):
        path = tmp_path / "cut.json"
        path.write_text(whole[:end])
        with pytest.raises(ValueError, match=r"cut\.json, line \d+, detection [012]: ") as caught:
            list(iterate_json_array(path))
        if end:
            assert "cut off" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, detection 0: a list of detections was expected"),
        ('{"a": 1}', "line 1, detection 0: a list of detections was expected"),
        ("[1]", "line 1, detection 0: an object .* was expected"),
        ('[{"a": 1},\n]', "line 2, detection 1: an object .* was expected"),
        ('[{"a": 1}\n\n{"a": 2}]', "line 3, detection 1: ',' or ']' was expected"),
        ('[\n{"a": 1},\n{"a" 2},\n{"a": 3}]', "line 3, detection 1: malformed JSON: Expecting ':'"),
        ('[{"a": 1}]\n[]', "line 2, detection 1: there is text behind the end"),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_malformed_text_is_named_with_its_line(tmp_path, chunk, text, message, size):
    chunk(size)
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        list(iterate_json_array(path))


def test_element_without_end_does_not_fill_the_memory(tmp_path, chunk, monkeypatch):
    chunk(10)
    monkeypatch.setattr(json_stream, "LONGEST_ELEMENT", 100)
    path = tmp_path / "list.json"
    path.write_text('[{"a": "' + "x" * 5000 + '"}]')
    read = []
    monkeypatch.setattr(
        json_stream._Reader, "_read_more", counting(json_stream._Reader._read_more, read)
    )
    with pytest.raises(ValueError, match="detection 0: malformed JSON"):
        list(iterate_json_array(path))
    assert len(read) < 15


def counting(function, calls):
    def call(*args):
        calls.append(args)
        return function(*args)

    return call


def test_not_text(tmp_path):
    path = tmp_path / "list.json"
    path.write_bytes(b'[{"a": "\xff\xfe"}]')
    with pytest.raises(ValueError, match="not UTF-8 text"):
        list(iterate_json_array(path))
    with pytest.raises(FileNotFoundError, match=r"no file .*none\.json"):
        list(iterate_json_array(tmp_path / "none.json"))
