"""The manifest of an export: what is written is read, and nothing else is."""

from __future__ import annotations

import json
import math

import pytest

from iff_detectron2.deploy.manifest import (
    FRAME,
    HEADS,
    KEY,
    MANIFEST,
    InputSpec,
    Manifest,
    TensorSpec,
    file_hash,
    read_manifest,
)
from iff_detectron2.structures import TemporalWindow


@pytest.fixture
def written(tmp_path):
    """Return a manifest in a folder with files that it names."""
    for name in (FRAME, KEY, HEADS):
        (tmp_path / name).write_bytes(name.encode())
    manifest = Manifest(
        detector="VideoThing",
        made_by={"torch": "2"},
        device="cpu",
        input=InputSpec("BGR", 40, 64, None, (1.0, 2, 3), (1.0, 1.0, 1.0), 16),
        codes=(
            TensorSpec("p.feature", "float32", (1, 8, "any", "any")),
            TensorSpec("p.flow", "float32", (1, 4, "any", "any")),
            TensorSpec("q.feature", "float32", (1, 8, "any", "any")),
        ),
        maps=(
            TensorSpec("p", "float32", (1, 8, "any", "any")),
            TensorSpec("q", "float32", (1, 8, "any", "any")),
        ),
        fused=("p",),
        window=TemporalWindow(4, 2, False),
        any_window=True,
        class_names=("a thing", "another"),
        files={name: file_hash(tmp_path / name) for name in (FRAME, KEY, HEADS)},
        left_out={"frame.onnx": "no operator"},
    )
    manifest.write(tmp_path)
    return manifest


def test_it_comes_back_as_it_was(written, tmp_path):
    assert read_manifest(tmp_path) == written
    assert written.key_codes == ["p.feature", "p.flow"]


def test_sha256_is_that_of_the_standard(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert file_hash(tmp_path / "x") == known


GONE = "<gone>"  # a text, so that all processes of a run name the tests alike


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["format"], "another", "is no manifest"),
        (["version"], 2, "has version 2"),
        (["version"], True, "version must be int"),
        (["window"], GONE, "window is missing"),
        (["window", "causal"], 1, "window.causal must be bool"),
        (["window", "num_refs"], 3, "window.num_refs"),
        (["window", "more"], 3, "window.more is not known"),
        (["later"], 3, "later is not known"),
        (["codes"], {}, "codes must be list"),
        (["codes", 1, "shape"], [1, None], "codes[1].shape holds"),
        (["codes", 0, "name"], "x", "p.feature is missing"),
        (["codes", 0], 7, "codes[0]. must be an object"),
        (["fused"], ["z"], "fused must be names of maps"),
        (["fused"], [], "do not agree"),
        (["input", "format"], "L", "input.format must be one of BGR, RGB"),
        (["input", "frame_size"], [3], "input.frame_size"),
        (["input", "frame_size"], [], "input.frame_size"),
        (["input", "pixel_mean"], ["x"], "input.pixel_mean holds"),
        (["input", "min_size"], -1, "min_size"),
        (["input", "min_size"], 10**9, "input.min_size must be from 0 to 16384"),
        (["input", "max_size"], 0, "input.max_size must be at least 1"),
        (["input", "size_divisibility"], -1, "input.size_divisibility must not be negative"),
        (["input", "pixel_mean"], [1.0, 2.0], "input.pixel_mean must be three numbers"),
        (["input", "pixel_mean"], [1, 2, 10**400], "input.pixel_mean must be three numbers"),
        (["input", "pixel_std"], [1.0, 0.0, 1.0], "input.pixel_std must be three numbers"),
        (["input", "pixel_std"], [1.0, math.nan, 1.0], "input.pixel_std must be three numbers"),
        (["window", "num_refs"], 10**12, "window.num_refs and stride must be at most 16384"),
        (["window", "stride"], 10**12, "window.num_refs and stride must be at most 16384"),
        (["device"], "meta", "device must be one of cpu, cuda"),
        (["files"], {"../frame.pt2": "0"}, "no name of a file"),
        (["files"], {"/frame.pt2": "0"}, "no name of a file"),
        (["files"], {"..": "0"}, "no name of a file"),
        (["files", FRAME], GONE, "frame.pt2 is missing"),
        (["files", FRAME], "0", "is not the file that was written"),
        (["files", FRAME], 7, "files holds"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(written, tmp_path, path, value, words):
    content = json.loads((tmp_path / MANIFEST).read_text())
    place = content
    for key in path[:-1]:
        place = place[key]
    if value is GONE:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"manifest\.json|frame\.pt2") as error:
        read_manifest(tmp_path)
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, "\x00"], ids=repr)
def test_other_text_is_no_manifest(written, tmp_path, text):
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_a_large_file_is_not_read(written, tmp_path):
    (tmp_path / MANIFEST).write_bytes(b" " * (5 << 20))
    with pytest.raises(ValueError, match="that is no manifest"):
        read_manifest(tmp_path)


def test_missing_files_are_named(written, tmp_path):
    (tmp_path / KEY).unlink()
    with pytest.raises(FileNotFoundError, match=r"key\.pt2 is missing"):
        read_manifest(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder that iff-detectron2 export wrote"):
        read_manifest(tmp_path / "elsewhere")
