"""`iff-detectron2 index`: make the image lists of an ILSVRC tree."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "make the image lists of ImageNet VID and DET from a bare ILSVRC tree, by the released rule"
EXAMPLE = "iff-detectron2 index datasets/ILSVRC2015"

PARTS = ("train", "val", "det")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "root", type=Path, metavar="ROOT", help="folder with Data and Annotations, as ILSVRC2015"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=PARTS,
        metavar="PART",
        help=f"parts of the tree, of {', '.join(PARTS)} (default: all that are there)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace lists that say something else"
    )


def run(args: argparse.Namespace) -> int:
    """Make the lists and write those that are not there yet."""
    from iff_detectron2.data.datasets.imagenet.known_figures import IMAGENET_FIGURES
    from iff_detectron2.data.datasets.imagenet.list_makers import LIST_MAKERS
    from iff_detectron2.utils.files import open_atomically

    root: Path = args.root.expanduser()
    parts = args.only or [p for p in PARTS if (root / LIST_MAKERS[p][0]).is_dir()]
    if not parts:
        places = ", ".join(place for place, _ in LIST_MAKERS.values())
        raise FileNotFoundError(f"{root} has none of {places}; name the folder that has them")
    lists = [LIST_MAKERS[part][1](root) for part in parts]
    kept = {found.path for found in lists if _holds(found.path, found.text)}
    for found in lists:
        if found.path.exists() and found.path not in kept and not args.overwrite:
            raise FileExistsError(
                f"{found.path} is there and says something else; keep it, or replace it with "
                "--overwrite"
            )
    for found in lists:
        if found.path not in kept:
            with open_atomically(found.path) as stream:
                stream.write(found.text)
        known = IMAGENET_FIGURES[found.path.stem]
        count = f"{len(found.lines)} lines, {found.num_units} {found.unit}"
        if found.num_frames != len(found.lines):
            count += f", {found.num_frames} frames"
        print(f"{found.path}: {count} ({'was there' if found.path in kept else 'written'})")
        ours = (len(found.lines), found.num_units, found.num_frames)
        if ours != (known.lines, known.videos or known.files, known.images):
            print(
                f"  the released list has {known.lines} lines, {known.videos or known.files} "
                f"{found.unit}, {known.images} frames: this tree is another or incomplete"
            )
    return 0


def _holds(path: Path, text: str) -> bool:
    """Whether a list says the same; the released ones may lack the last newline."""
    return path.is_file() and path.read_text(encoding="utf-8").rstrip("\n") == text.rstrip("\n")
