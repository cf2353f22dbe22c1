"""Datasets registered from a config alone: one string a dataset."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from iff_detectron2.data.moving_shapes.classes import MOVING_SHAPES_CLASSES

from .coco import (
    register_coco_frames,
    register_coco_vid,
    register_video_files,
    register_youtube_vis,
)
from .imagenet import register_imagenet_vid
from .mot import register_mot_challenge


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


def _mot_challenge(name: str, path: str, first: str | None, last: str | None) -> None:
    frames = None if first is None or last is None else (int(first), int(last))
    register_mot_challenge(name, path, frames=frames)


def _moving_shapes(name: str, root: str, image_set: str) -> None:
    register_imagenet_vid(name, root, image_set, classes={c: c for c in MOVING_SHAPES_CLASSES})


def _from_json(register: Callable[..., None]) -> Callable[..., None]:
    """Return the reader with the words behind the file as arguments."""

    def register_spec(name: str, root: str, json_file: str, words: str) -> None:
        options: dict[str, Any] = {}
        for word in words.split("@")[1:]:
            options.update(_WORDS[word])
        register(name, json_file, root, **options)

    return register_spec


_WORDS: dict[str, dict[str, Any]] = {
    "annotated_only": {"annotated_only": True},
    "all_frames": {"unlisted_frames": "all"},
    "listed_frames": {"unlisted_frames": "none"},
    "from_1": {"first_frame": 1},
}


def _json_form(register: Callable[..., None], *words: str) -> SpecForm:
    return SpecForm(
        "ROOT@FILE.json" + "".join(f"[@{word}]" for word in words),
        rf"([^@]+)@([^@]+\.json)((?:@(?:{'|'.join(words)}))*)",
        _from_json(register),
    )


_LIST = r"(.+)@([^@]+)"
_UNLISTED = ("all_frames", "listed_frames")
add_spec_form(
    "mot_challenge", SpecForm("PATH[@FIRST-LAST]", r"(.+?)(?:@(\d+)-(\d+))?", _mot_challenge)
)
add_spec_form("imagenet_vid", SpecForm("ROOT@LIST", _LIST, register_imagenet_vid))
add_spec_form("moving_shapes", SpecForm("ROOT@LIST", _LIST, _moving_shapes))
add_spec_form("coco_vid", _json_form(register_coco_vid, "annotated_only", *_UNLISTED))
add_spec_form("youtube_vis", _json_form(register_youtube_vis, "annotated_only", *_UNLISTED))
add_spec_form("coco_frames", _json_form(register_coco_frames, "annotated_only"))
add_spec_form("video_files", _json_form(register_video_files, "annotated_only", "from_1"))


def register_from_specs(specs: Sequence[str]) -> None:
    """Register the datasets that a config names (`DATASETS.REGISTER`).

    A spec is `NAME=KIND:` and then what the kind's entry in `SPEC_FORMS` says, with paths as seen
    from the working directory; docs/datasets.md has a table. The same spec again does nothing.

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
        parts = re.fullmatch(form.pattern, rest)
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
        form.register(name, *parts.groups())
        MetadataCatalog.get(name).register_spec = spec
