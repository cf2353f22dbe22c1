"""Reading many annotation files, from the files and from the cache."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest

from iff_detectron2.data.datasets.imagenet import annotation_reader
from iff_detectron2.data.datasets.imagenet.annotation_reader import (
    cache_path,
    find_unreadable,
    read_annotations,
)
from iff_detectron2.data.datasets.imagenet.annotation_table import AnnotationTable, load_table
from iff_detectron2.data.datasets.imagenet.xml_file import read_xml

NUM_FILES, BLOCK = 45, 16  # three blocks


@pytest.fixture
def files(tmp_path: Path, tiny_vid, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Annotation files with 0 to 2 objects; few enough to be quick, and yet cached."""
    monkeypatch.setattr(annotation_reader, "_CACHE_FROM", 10)
    monkeypatch.setattr(annotation_reader, "_BLOCK", BLOCK)
    paths = []
    for k in range(NUM_FILES):
        objects = [
            (f"class_{(k + j) % 5}", None if j else k, (k, j, k + 7.5 * (k == 3) + 1, 9))
            for j in range(k % 3)
        ]
        path = tmp_path / f"xml/{k}.xml"
        tiny_vid.write_xml(path, (64 + k, 48), objects)
        paths.append(str(path))
    return paths


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache/list.npz"


def as_read(table: AnnotationTable, image: int) -> tuple:
    """Return an image of a table in the words of `XMLAnnotation`."""
    starts = table.starts()
    objects = tuple(
        (
            table.names[table.name_ids[row]],
            tuple(table.boxes[row].tolist()),
            None if table.track_ids[row] < 0 else int(table.track_ids[row]),
        )
        for row in range(starts[image], starts[image + 1])
    )
    return (*table.sizes[image].tolist(), objects)


def check(table: AnnotationTable, files: list[str]) -> None:
    """Compare a table with one file after the other."""
    assert len(table) == len(files)
    for image, path in enumerate(files):
        assert as_read(table, image) == read_xml(path)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the files that are read from now on."""
    paths: list[str] = []

    def count(path):
        paths.append(path)
        return read_xml(path)

    monkeypatch.setattr(annotation_reader, "read_xml", count)
    return paths


def test_table_equals_the_files(files, cache, reads) -> None:
    check(read_annotations(files, "reading"), files)
    check(read_annotations(files, "reading", cache), files)
    assert len(reads) == 2 * NUM_FILES
    check(read_annotations(files, "reading", cache), files)
    assert len(reads) == 2 * NUM_FILES  # the last one came from the cache
    assert cache.stat().st_size < sum(Path(path).stat().st_size for path in files) / 2


def test_no_files() -> None:
    assert len(read_annotations([], "reading")) == 0


def test_changed_files_are_read_anew(files, cache, reads, tiny_vid, caplog) -> None:
    read_annotations(files, "reading", cache)
    reads.clear()
    tiny_vid.write_xml(Path(files[20]), (9, 9), [])
    with caplog.at_level(logging.WARNING):
        check(read_annotations(files, "reading", cache), files)
    assert reads == files[BLOCK : 2 * BLOCK]  # the block of the file
    assert "annotation files changed since" in caplog.text
    reads.clear()
    check(read_annotations(files, "reading", cache), files)
    assert reads == []


def test_same_size_but_newer_is_a_change(files, cache) -> None:
    read_annotations(files, "reading", cache)
    path = Path(files[5])
    path.write_text(path.read_text().replace("<width>69<", "<width>96<"))
    assert read_annotations(files, "reading", cache).sizes[5].tolist() == [96, 48]


@pytest.mark.parametrize("damage", ["cut", "noise", "text", "empty", "pickle", "other arrays"])
def test_damaged_cache_is_made_anew_with_a_message(
    files, cache, reads, caplog, damage, tmp_path
) -> None:
    read_annotations(files, "reading", cache)
    content = cache.read_bytes()
    if damage == "cut":
        cache.write_bytes(content[: len(content) // 2])
    elif damage == "noise":
        middle = len(content) // 2
        cache.write_bytes(content[:middle] + bytes(64) + content[middle + 64 :])
    elif damage == "text":
        cache.write_text("not a cache")
    elif damage == "empty":
        cache.write_bytes(b"")
    elif damage == "pickle":
        arrays = dict(np.load(cache))
        victim = tmp_path / "victim"

        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(victim),)

        np.savez(cache, **{**arrays, "names": np.array([Evil()], dtype=object)})
    else:
        arrays = dict(np.load(cache))
        np.savez(cache, **{**arrays, "counts": arrays["counts"] + 1})
    reads.clear()
    with caplog.at_level(logging.WARNING):
        check(read_annotations(files, "reading", cache), files)
    assert len(reads) == NUM_FILES
    assert "list.npz is damaged" in caplog.text
    assert not (tmp_path / "victim").exists()
    load_table(cache, ("key", "done", "stats"))  # whole again


def test_cache_of_another_list_is_made_anew_with_a_message(files, cache, reads, caplog) -> None:
    read_annotations(files, "reading", cache)
    reads.clear()
    with caplog.at_level(logging.WARNING):
        check(read_annotations(files[1:], "reading", cache), files[1:])
    assert len(reads) == NUM_FILES - 1
    assert "was made from another list" in caplog.text


@pytest.mark.parametrize("what", ["interrupted", "malformed", "missing"])
def test_what_was_read_is_not_lost(files, cache, reads, monkeypatch, what, caplog) -> None:
    bad = Path(files[40])
    content = bad.read_text()
    expected: type[BaseException] = KeyboardInterrupt
    if what == "malformed":
        bad.write_text("<annotation>")
        expected = ValueError
    elif what == "missing":
        bad.unlink()
        expected = FileNotFoundError
    else:
        counting = annotation_reader.read_xml

        def interrupt(path):
            if path == files[40]:
                raise KeyboardInterrupt
            return counting(path)

        monkeypatch.setattr(annotation_reader, "read_xml", interrupt)
    with pytest.raises(expected) as caught:
        read_annotations(files, "reading", cache)
    if what != "interrupted":
        assert str(bad) in str(caught.value)
    else:
        monkeypatch.setattr(annotation_reader, "read_xml", counting)
    assert "the next start goes on there" in caplog.text
    bad.write_text(content)
    reads.clear()
    check(read_annotations(files, "reading", cache), files)
    assert reads == files[2 * BLOCK :]  # the two blocks before the bad one were kept


def test_unwritable_cache_folder_is_no_obstacle(files, tmp_path, caplog) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    check(read_annotations(files, "reading", tmp_path / "file/list.npz"), files)
    assert "IFF_DETECTRON2_CACHE" in caplog.text


def test_full_disk_is_no_obstacle(files, cache, monkeypatch, caplog) -> None:
    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(annotation_reader, "save_table", refuse)
    check(read_annotations(files, "reading", cache), files)
    assert "list.npz cannot be written: No space left on device" in caplog.text


def test_unreadable_files_are_found_all(files) -> None:
    Path(files[3]).write_text("")
    Path(files[44]).unlink()
    bad = find_unreadable(files, "reading")
    assert [path for path, _ in bad] == [files[3], files[44]]
    assert "not well-formed XML" in bad[0][1]
    assert "does not exist" in bad[1][1]


def test_place_of_the_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("IFF_DETECTRON2_CACHE", str(tmp_path / "here"))
    path = cache_path(tmp_path, "VID_val_videos")
    assert path.parent == tmp_path / "here"
    assert path.name.startswith("VID_val_videos-")
    assert path != cache_path(tmp_path / "other", "VID_val_videos")
    monkeypatch.delenv("IFF_DETECTRON2_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_path(tmp_path, "x").parent == tmp_path / "xdg/iff_detectron2"
