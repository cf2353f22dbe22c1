"""Datasets registered from a config alone: one string a dataset."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from iff_detectron2.data.moving_shapes.classes import MOVING_SHAPES_CLASSES

from .coco import (
    register_burst,
    register_coco_frames,
    register_coco_vid,
    register_video_files,
    register_youtube_vis,
)
from .imagenet import register_imagenet_vid
from .mot import (
    register_cvat_mot,
    register_kitti_tracking,
    register_mot_challenge,
    register_ua_detrac,
    register_visdrone,
)
from .tools import (
    register_cvat_video,
    register_label_studio,
    register_via_csv,
    register_yolo,
)


@dataclass(frozen=True)
class SpecForm:
    """How a kind of dataset is written in `DATASETS.REGISTER`.

    Attributes:
        form: what follows `NAME=KIND:`, for messages, such as `PATH[@FIRST-LAST]`.
        pattern: regular expression of it.
        register: registers a dataset of that kind; gets its name and the pattern's groups.
    """

    form: str
    pattern: str
    register: Callable[..., None]


_ESCAPED = "\0"  # stands for `@@` while a spec is taken apart

SPEC_FORMS: dict[str, SpecForm] = {}


def add_spec_form(kind: str, form: SpecForm) -> None:
    """Make `NAME=KIND:...` known, also for readers outside of this package.

    Raises:
        ValueError: the kind is no word, or known already.
    """
    if not re.fullmatch(r"\w+", kind):
        raise ValueError(f"a kind of dataset must be one word, got {kind!r}")
    if kind in SPEC_FORMS:
        raise ValueError(f"the kind of dataset {kind!r} is known already; choose another word")
    SPEC_FORMS[kind] = form


def _moving_shapes(name: str, root: str, image_set: str) -> None:
    register_imagenet_vid(name, root, image_set, classes={c: c for c in MOVING_SHAPES_CLASSES})


_WORDS: dict[str, dict[str, Any]] = {
    "annotated_only": {"annotated_only": True},
    "all_frames": {"unlisted_frames": "all"},
    "listed_frames": {"unlisted_frames": "none"},
    "from_1": {"first_frame": 1},
}
_SPAN = r"(?:@([0-9]{1,9})-([0-9]{1,9}))?"
_CLASSES = r"(?:@classes=([^@]+))?"
_NUMBER = r"(?:@number=(.+))?"


def _options(
    words: str, first: str | None, last: str | None, classes: str | None, number: str | None
) -> dict[str, Any]:
    """Arguments of a reader from what stands behind its paths."""
    options: dict[str, Any] = {}
    for word in words.split("@")[1:]:
        options.update(_WORDS[word])
    if first and last:
        options["frames"] = (int(first), int(last))
    if classes:
        options["classes"] = classes.split(",")
    if number:
        options["number"] = number
    return options


def _form(
    register: Callable[..., None],
    paths: str,
    pattern: str,
    *words: str,
    span: bool = False,
    number: bool = False,
) -> SpecForm:
    """Return the form of a reader: its paths, then words, a range, classes and an expression.

    Args:
        register: gets the name, the paths and the options.
        paths: how they are written, for messages.
        pattern: regular expression of the paths, one group each.
        words: those of `_WORDS` that the reader understands.
        span: it understands FIRST-LAST.
        number: it understands number=REGEX, see `FrameNames`.
    """

    def register_spec(name: str, *groups: str | None) -> None:
        *found, chosen, first, last, classes, expression = groups
        given = [path for path in found if path is not None]
        register(name, *given, **_options(chosen or "", first, last, classes, expression))

    form = paths + "".join(f"[@{word}]" for word in words)
    form += "[@FIRST-LAST]" * span + "[@classes=A,B]" + "[@number=REGEX]" * number
    behind = rf"((?:@(?:{'|'.join(words) or '(?!)'}))*)" + (_SPAN if span else "()()") + _CLASSES
    return SpecForm(form, pattern + behind + (_NUMBER if number else "()"), register_spec)


def _json_first(register: Callable[..., None]) -> Callable[..., None]:
    """Return a reader that takes the annotation file before the root, the other way round."""
    return lambda name, root, file, **options: register(name, file, root, **options)


def _two(what: str) -> str:
    return rf"(.+)@([^@]+{what})"


_PATH = r"(.+?)"
_TWO_PATHS = r"(.+?)@([^@]+?)"
_LIST = r"(.+)@([^@]+)"
_JSON = ("ROOT@FILE.json", _two(r"\.json"))
_UNLISTED = ("annotated_only", "all_frames", "listed_frames")
_IMAGES: dict[str, Any] = {"span": True, "number": True}
SPEC_FORMS |= {
    "video_files": _form(_json_first(register_video_files), *_JSON, "annotated_only", "from_1"),
    "coco_frames": _form(_json_first(register_coco_frames), *_JSON, "annotated_only", number=True),
    "coco_vid": _form(_json_first(register_coco_vid), *_JSON, *_UNLISTED),
    "youtube_vis": _form(_json_first(register_youtube_vis), *_JSON, *_UNLISTED),
    "burst": _form(register_burst, *_JSON, "annotated_only", span=True),
    "mot_challenge": _form(register_mot_challenge, "PATH", _PATH, span=True),
    "visdrone": _form(register_visdrone, "PATH", _PATH, span=True),
    "kitti_tracking": _form(register_kitti_tracking, "IMAGES@LABELS", _TWO_PATHS, span=True),
    "ua_detrac": _form(register_ua_detrac, "IMAGES@ANNOTATIONS", _TWO_PATHS, span=True),
    "cvat_mot": _form(
        register_cvat_mot,
        "PATH[@VIDEO]",
        r"(.+?)(?:@(?!classes=|[0-9]+-[0-9]+(?:@|$))([^@]+))?",
        span=True,
    ),
    "cvat_video": _form(
        register_cvat_video, "VIDEO@FILE.xml", _TWO_PATHS, "annotated_only", span=True
    ),
    "label_studio": _form(
        register_label_studio, "VIDEO@FILE.json", _JSON[1], "annotated_only", span=True
    ),
    "via_csv": _form(
        register_via_csv, "IMAGES@FILE.csv", _two(r"\.csv"), "annotated_only", **_IMAGES
    ),
    "yolo": _form(
        register_yolo,
        "ROOT[@SPLIT]",
        r"(.+?)(?:@(?!annotated_only)([A-Za-z]\w*))?",
        "annotated_only",
        **_IMAGES,
    ),
    "imagenet_vid": SpecForm("ROOT@LIST", _LIST, register_imagenet_vid),
    "moving_shapes": SpecForm("ROOT@LIST", _LIST, _moving_shapes),
}


def register_from_specs(specs: Sequence[str]) -> None:
    """Register the datasets that a config names (`DATASETS.REGISTER`).

    A spec is `NAME=KIND:` and then what the kind's entry in `SPEC_FORMS` says, with paths as seen
    from the working directory; docs/datasets.md has a table. `@@` stands for an @ in a path. The
    same spec again does nothing.

    Raises:
        ValueError: a malformed spec, or a name that stands for something else already.
    """
    for spec in specs:
        match = re.fullmatch(r"([^=\s]+)=(\w+):(.+)", spec)
        if match is None or match[2] not in SPEC_FORMS:
            raise ValueError(
                f"cannot read the dataset {spec!r}; write NAME=KIND:... with one of "
                + ", ".join(f"{kind}:{form.form}" for kind, form in SPEC_FORMS.items())
            )
        name, kind, rest = match.groups()
        form = SPEC_FORMS[kind]
        parts = re.fullmatch(form.pattern, rest.replace("@@", _ESCAPED))
        if parts is None:
            raise ValueError(f"cannot read the dataset {spec!r}; write NAME={kind}:{form.form}")
        if name in DatasetCatalog:
            known = MetadataCatalog.get(name).get("register_spec")
            if known == spec:
                continue
            raise ValueError(
                f"the dataset name of {spec!r} stands for something else already"
                + (f" ({known!r})" if known else "")
                + "; choose another name"
            )
        groups = (g if g is None else g.replace(_ESCAPED, "@") for g in parts.groups())
        form.register(name, *groups)
        MetadataCatalog.get(name).register_spec = spec
