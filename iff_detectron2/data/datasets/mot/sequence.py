"""A MOTChallenge sequence: `seqinfo.ini`, a folder of frames, and `gt/gt.txt`, line by line."""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from iff_detectron2.data.datasets.text_file import MAX_FRAMES, lines_of, read_text, to_number
from iff_detectron2.data.video_index import NumberedFrames


@dataclass(frozen=True)
class SequenceInfo:
    """What `seqinfo.ini` says.

    Attributes:
        name: name of the sequence.
        frames: image files, the first one is MOT's frame 1.
        width: width of the images in pixels.
        height: height of the images in pixels.
    """

    name: str
    frames: NumberedFrames
    width: int
    height: int


def read_seqinfo(folder: Path) -> SequenceInfo:
    """Read `seqinfo.ini` and find out how the frames are numbered.

    Raises:
        FileNotFoundError: `seqinfo.ini` or the first frame is missing.
        ValueError: it is no such file, or a key is missing or not a positive integer.
    """
    path = folder / "seqinfo.ini"
    parser = configparser.ConfigParser(interpolation=None)
    text = read_text(
        path, "a MOTChallenge sequence is a folder with seqinfo.ini, gt/gt.txt and its frames"
    )
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ValueError(f"{path} is not a valid ini file: {error}") from None

    def value(key: str) -> str:
        if not parser.has_option("Sequence", key):
            raise ValueError(f"{path} lacks the key {key!r} in its section [Sequence]")
        return parser.get("Sequence", key)

    def positive(key: str) -> int:
        content = value(key)
        good = content.isdecimal() and len(content) <= len(str(MAX_FRAMES))
        if not good or not 1 <= int(content) <= MAX_FRAMES:
            raise ValueError(
                f"{path} has {key} = {content[:40]!r}; expected a positive integer of at most "
                f"{MAX_FRAMES}"
            )
        return int(content)

    image_folder = Path(value("imDir"))
    if image_folder.is_absolute() or ".." in image_folder.parts or "\0" in str(image_folder):
        raise ValueError(f"{path} has imDir = {str(image_folder)!r}, which leaves the sequence")
    extension = value("imExt")
    if "/" in extension or "\0" in extension:
        raise ValueError(f"{path} has imExt = {extension!r}; expected an extension such as .jpg")
    numbers = range(1, positive("seqLength") + 1)
    # Six digits in MOTChallenge itself, seven in VisDrone, eight in sets that borrow its format.
    for digits in (6, 7, 8):
        frames = NumberedFrames(str(folder / image_folder), numbers, digits, extension)
        if Path(frames[0]).is_file():
            break
    else:
        raise FileNotFoundError(
            f"the first frame of {folder} is missing: neither 6 nor 7 nor 8 digits find "
            f"{folder / image_folder}/...1{extension}"
        )
    return SequenceInfo(value("name"), frames, positive("imWidth"), positive("imHeight"))


def find_sequences(path: Path, marker: str = "seqinfo.ini") -> list[Path]:
    """Return the sequence at `path`, or else all sequences right below it, sorted by name.

    Args:
        path: a sequence, or a folder of sequences.
        marker: file that makes a folder a sequence.

    Raises:
        FileNotFoundError: there is none.
    """
    if (path / marker).is_file() or not path.is_dir():
        return [path]
    depth = len(Path(marker).parts)
    found = sorted(file.parents[depth - 1] for file in path.glob(f"*/{marker}"))
    if not found:
        raise FileNotFoundError(f"neither {path} nor a folder in it has a {marker}")
    return found


@dataclass(frozen=True)
class Row:
    """A line of comma-separated numbers: frame, id, left, top, width, height, and more.

    Attributes:
        place: file and line, for messages.
        line: as it stands there.
        values: the columns.
    """

    place: str
    line: str
    values: tuple[float, ...]

    def integers(self, *columns: int) -> list[int]:
        """Return columns that must be integers.

        Raises:
            ValueError: one is not.
        """
        found = [self.values[column] for column in columns]
        if any(value != int(value) for value in found):
            raise ValueError(
                f"{self.place}: frame, id and class must be integers: {self.line[:80]!r}"
            )
        return [int(value) for value in found]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2 in pixels."""
        left, top, width, height = self.values[2:6]
        return left, top, left + width, top + height

    @property
    def track_id(self) -> int | None:
        """The id; None for a negative one, which says that there is no identity."""
        identity = int(self.values[1])
        return identity if identity >= 0 else None


def read_rows(path: Path, what: str, columns: tuple[int, ...], names: str) -> Iterator[Row]:
    """Read lines of comma-separated numbers; a comma at their end is no column.

    Args:
        path: the file.
        what: what it is, for the message if it is missing.
        columns: numbers of columns that a line may have.
        names: what has so many columns, for messages.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line has other columns, or one that is no finite number.
    """
    for place, line in lines_of(path, what):
        parts = line.strip().removesuffix(",").split(",")
        if len(parts) not in columns:
            raise ValueError(f"{place}: expected {names} columns, got {len(parts)}: {line[:80]!r}")
        yield Row(place, line, tuple(to_number(part, "every column", place) for part in parts))
