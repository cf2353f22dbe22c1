"""What an exported detector is: its files, its tensors, and all that a host must know to run it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from iff_detectron2.structures import TemporalWindow
from iff_detectron2.utils.files import open_atomically

MANIFEST = "manifest.json"
FRAME, KEY, HEADS = "frame.pt2", "key.pt2", "heads.ts"
FORMAT, VERSION = "iff_detectron2 export", 1
# A manifest takes some kilobytes; what is larger is something else.
_MOST_BYTES = 4 << 20
# Pixels of a shorter side, and frames of a window: no detector has more.
_MOST = 1 << 14
DEVICES = ("cpu", "cuda")
IMAGE_FORMATS = ("BGR", "RGB")

Side = int | str
T = TypeVar("T")


@dataclass(frozen=True)
class TensorSpec:
    """A tensor that goes into a program or comes out of it.

    Attributes:
        name: of codes "MAP.CODE", of feature maps "MAP".
        dtype: as torch calls it, "float32".
        shape: a number, or the name of a side that may be any.
    """

    name: str
    dtype: str
    shape: tuple[Side, ...]


@dataclass(frozen=True)
class InputSpec:
    """How a frame becomes the input of `frame.pt2`.

    Attributes:
        format: order of the colours, BGR or RGB.
        min_size: pixels of the shorter side after resizing; 0 for no resizing.
        max_size: most pixels of the longer side.
        frame_size: height and width of the frames it is for; None for any.
        pixel_mean, pixel_std: taken off and divided by inside `frame.pt2`.
        size_divisibility: `frame.pt2` pads right and below to multiples of this.
    """

    format: str
    min_size: int
    max_size: int
    frame_size: tuple[int, int] | None
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    size_divisibility: int


@dataclass(frozen=True)
class Manifest:
    """A folder that `iff-detectron2 export` wrote.

    Attributes:
        detector: name of its class.
        made_by: version of each package that matters, by its name.
        device: "cpu" or "cuda", where the programs run.
        input: how a frame becomes their input.
        codes: what `frame.pt2` gives for a frame.
        maps: feature maps that `heads.ts` takes, in this order.
        fused: names of those maps that `key.pt2` makes; the others are codes "MAP.feature".
        window: reference frames of a key frame.
        any_window: `key.pt2` takes any number of reference frames from two on.
        class_names: None where they are not known.
        files: SHA-256 of each file, by its name.
        left_out: for each file that was not written, the reason.
    """

    detector: str
    made_by: dict[str, str]
    device: str
    input: InputSpec
    codes: tuple[TensorSpec, ...]
    maps: tuple[TensorSpec, ...]
    fused: tuple[str, ...]
    window: TemporalWindow
    any_window: bool
    class_names: tuple[str, ...] | None
    files: dict[str, str]
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def key_codes(self) -> list[str]:
        """Names of the codes that `key.pt2` takes, in this order."""
        return [c.name for c in self.codes if c.name.rpartition(".")[0] in self.fused]

    def write(self, folder: Path) -> None:
        """Write the manifest into the folder of its files."""
        content = {"format": FORMAT, "version": VERSION, **asdict(self)}
        with open_atomically(folder / MANIFEST) as stream:
            json.dump(content, stream, indent=2, allow_nan=False)
            stream.write("\n")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_manifest(folder: str | Path) -> Manifest:
    """Read the manifest of a folder, and compare its files with it.

    Raises:
        FileNotFoundError: there is none, or a file that it names is missing.
        ValueError: it is no such manifest, of another version, or damaged; the message names the
            key. A file is not the one that was written with it.
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; {folder} is no folder that iff-detectron2 export wrote"
        )
    manifest = _parse(path)
    for name, expected in manifest.files.items():
        if not (folder / name).is_file():
            raise FileNotFoundError(f"{folder / name} is missing, which {path} names; export anew")
        if file_hash(folder / name) != expected:
            raise ValueError(
                f"{folder / name} is not the file that was written with {path}; export anew"
            )
    return manifest


def _parse(path: Path) -> Manifest:
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; that is no manifest")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from None
    root = _Table(content, str(path), "")
    if root.take("format", str) != FORMAT:
        raise ValueError(f"{path} is no manifest of iff-detectron2 export")
    version = root.take("version", int)
    if version != VERSION:
        raise ValueError(
            f"{path} has version {version}, this iff_detectron2 reads {VERSION}; export anew with "
            "it, or run it with the one that wrote it"
        )
    manifest = Manifest(
        root.take("detector", str),
        root.texts("made_by"),
        root.take("device", str),
        _input_of(root.table("input")),
        tuple(_tensor_of(table) for table in root.tables("codes")),
        tuple(_tensor_of(table) for table in root.tables("maps")),
        root.list_of("fused", str),
        _window_of(root.table("window")),
        root.take("any_window", bool),
        None if root.is_null("class_names") else root.list_of("class_names", str),
        root.texts("files"),
        root.texts("left_out"),
    )
    root.end()
    for name in manifest.files:
        if Path(name).name != name or name in ("", ".", ".."):
            raise root.error("files", f"{name!r} is no name of a file in its folder")
    if manifest.device not in DEVICES:
        raise root.error("device", f"must be one of {', '.join(DEVICES)}")
    if FRAME not in manifest.files:
        raise root.error("files", f"{FRAME} is missing")
    known = {c.name for c in manifest.codes}
    missing = [m.name for m in manifest.maps if f"{m.name}.feature" not in known]
    if missing:
        raise root.error("codes", f"{missing[0]}.feature is missing")
    if not {*manifest.fused} <= {m.name for m in manifest.maps}:
        raise root.error("fused", "must be names of maps")
    if bool(manifest.fused) != (KEY in manifest.files):
        raise root.error("fused", f"and {KEY} do not agree")
    return manifest


def _input_of(table: _Table) -> InputSpec:
    size = None if table.is_null("frame_size") else table.list_of("frame_size", int)
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise table.error("frame_size", "must be height and width")
    spec = InputSpec(
        table.take("format", str),
        table.take("min_size", int),
        table.take("max_size", int),
        None if size is None else (size[0], size[1]),
        table.list_of("pixel_mean", float),
        table.list_of("pixel_std", float),
        table.take("size_divisibility", int),
    )
    table.end()
    if spec.format not in IMAGE_FORMATS:
        raise table.error("format", f"must be one of {', '.join(IMAGE_FORMATS)}")
    if not 0 <= spec.min_size <= _MOST:
        raise table.error("min_size", f"must be from 0 to {_MOST}")
    if spec.min_size and spec.max_size < 1:
        raise table.error("max_size", "must be at least 1")
    if spec.size_divisibility < 0:
        raise table.error("size_divisibility", "must not be negative")
    means, deviations = spec.pixel_mean, spec.pixel_std
    if len(means) != 3 or not all(abs(mean) < 1e9 for mean in means):  # NaN is not, either
        raise table.error("pixel_mean", "must be three numbers")
    if len(deviations) != 3 or not all(0 < deviation < 1e9 for deviation in deviations):
        raise table.error("pixel_std", "must be three numbers above 0")
    return spec


def _tensor_of(table: _Table) -> TensorSpec:
    shape = table.list_of("shape", (int, str))
    spec = TensorSpec(table.take("name", str), table.take("dtype", str), shape)
    table.end()
    return spec


def _window_of(table: _Table) -> TemporalWindow:
    values = (table.take("num_refs", int), table.take("stride", int), table.take("causal", bool))
    table.end()
    if max(values[:2]) > _MOST:
        raise table.error("num_refs", f"and stride must be at most {_MOST}")
    try:
        return TemporalWindow(*values)
    except ValueError as error:
        raise table.error("num_refs", str(error)) from None


class _Table:
    """A JSON object whose keys are taken one by one, each of its type, until none is left."""

    def __init__(self, content: Any, path: str, name: str) -> None:
        self.path, self.name = path, name
        if not isinstance(content, dict):
            raise ValueError(f"{path}: {name or 'the manifest'} must be an object")
        self.rest = dict(content)

    def error(self, key: str, problem: str) -> ValueError:
        return ValueError(f"{self.path}: {self.name}{key} {problem}")

    def take(self, key: str, kind: type[T]) -> T:
        if key not in self.rest:
            raise self.error(key, "is missing")
        value = self.rest.pop(key)
        if not _is(value, kind):
            raise self.error(key, f"must be {kind.__name__}, got {value!r:.60}")
        return value

    def is_null(self, key: str) -> bool:
        """Take a null; other values stay."""
        if key in self.rest and self.rest[key] is None:
            del self.rest[key]
            return True
        return False

    def list_of(self, key: str, kind: type | tuple[type, ...]) -> tuple[Any, ...]:
        values = self.take(key, list)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not all(any(_is(value, k) for k in kinds) for value in values):
            raise self.error(key, f"holds something else than {' or '.join(map(_name, kinds))}")
        return tuple(values)

    def texts(self, key: str) -> dict[str, str]:
        values = self.take(key, dict)
        if not all(isinstance(value, str) for value in values.values()):
            raise self.error(key, "holds something else than str")
        return values

    def table(self, key: str) -> _Table:
        return _Table(self.take(key, dict), self.path, f"{self.name}{key}.")

    def tables(self, key: str) -> list[_Table]:
        values = self.take(key, list)
        return [_Table(v, self.path, f"{self.name}{key}[{i}].") for i, v in enumerate(values)]

    def end(self) -> None:
        if self.rest:
            raise self.error(next(iter(self.rest)), "is not known")


def _name(kind: type) -> str:
    return kind.__name__


def _is(value: Any, kind: type) -> bool:
    """Whether a JSON value is of a type; a whole number is a float too, and true is no number."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)
