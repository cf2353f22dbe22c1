"""How fast the annotations of a set of the size of ImageNet VID and DET are read.

    python benchmarks/annotations.py                      # 60000 files; second start of 287197
    python benchmarks/annotations.py --folder /disk/tmp   # on the disk that matters

First start: every file is read, and the cache is written. Second start: another process gets the
same dataset by its cache. Beside it: the same files, one after the other, by ElementTree alone.
The files are made up, in the form of ImageNet VID, 0 to 3 objects each, and removed in the end. The
larger set consists of hard links, which cost a second start as much as files do.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

from iff_detectron2.data.datasets.imagenet.annotation_reader import cache_path
from iff_detectron2.data.datasets.imagenet.vid import (
    IMAGENET_VID_CLASSES,
    load_imagenet_vid,
)

DET_AND_VID = 53237 + 57834 + 176126  # entries of the three lists
LENGTH = 300  # frames of a video
IMAGE_SET = "VID_val_videos"
LINKS = 1000  # per file: file systems allow only so many

OBJECT = (
    "\t<object>\n\t\t<trackid>{}</trackid>\n\t\t<name>{}</name>\n\t\t<bndbox>\n"
    "\t\t\t<xmax>{}</xmax>\n\t\t\t<xmin>{}</xmin>\n\t\t\t<ymax>{}</ymax>\n\t\t\t<ymin>{}</ymin>\n"
    "\t\t</bndbox>\n\t\t<occluded>0</occluded>\n\t\t<generated>1</generated>\n\t</object>\n"
)


def make_xml(generator: random.Random, frame: int) -> str:
    """Text of an annotation with 0 to 3 objects (1.5 on average, as VID val has)."""
    objects = ""
    for track in range(generator.randrange(4)):
        x, y = generator.randrange(600), generator.randrange(400)
        synset = generator.choice(tuple(IMAGENET_VID_CLASSES))
        objects += OBJECT.format(track, synset, x + 300, x, y + 200, y)
    return (
        f"<annotation>\n\t<folder>ILSVRC2015_val_00000000</folder>\n\t<filename>{frame:06d}"
        "</filename>\n\t<source>\n\t\t<database>ILSVRC_2015</database>\n\t</source>\n\t<size>\n"
        f"\t\t<width>1280</width>\n\t\t<height>720</height>\n\t</size>\n{objects}</annotation>\n"
    )


def make_tree(root: Path, num_files: int, links: bool) -> list[Path]:
    """Write annotations and the list of a set; returns the annotation files."""
    generator = random.Random(0)
    files, lines = [], []
    for first in range(0, num_files, LENGTH):
        length = min(LENGTH, num_files - first)
        folder = f"val/ILSVRC2015_val_{first // LENGTH:08d}"
        lines.append(f"{folder} {first + 1} 0 {length}")
        (root / "Annotations/VID" / folder).mkdir(parents=True)
        for frame in range(length):
            path = root / "Annotations/VID" / folder / f"{frame:06d}.xml"
            if links and len(files) % LINKS:
                os.link(files[-1], path)
            else:
                path.write_text(make_xml(generator, frame))
            files.append(path)
    (root / "ImageSets").mkdir()
    (root / f"ImageSets/{IMAGE_SET}.txt").write_text("\n".join(lines))
    return files


def load(root: Path) -> list[dict]:
    """Load the dataset of a tree."""
    return load_imagenet_vid("benchmark", root, IMAGE_SET, IMAGENET_VID_CLASSES)[0]


def measure(function: Callable[[], list]) -> tuple[int, float, float]:
    """Length of what the function returns, wall seconds and processor seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = function()
    return len(result), time.perf_counter() - wall, time.process_time() - cpu


def second_start(root: Path) -> str:
    """Load the dataset in a process of its own; returns what it prints."""
    command = [sys.executable, __file__, "--start", str(root)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def element_tree_alone(files: list[Path]) -> list[Path]:
    """Read files with ElementTree, one after the other, without making anything of them."""
    for path in files:
        root = ElementTree.parse(path).getroot()
        for node in root.iterfind("object"):
            node.findtext("name")
            [float(value.text or "") for value in node.find("bndbox") or ()]
    return files


def main() -> None:
    """Make the trees, read them, and print times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=60_000, help="files of the first start")
    parser.add_argument("--entries", type=int, default=DET_AND_VID, help="of the second start")
    parser.add_argument("--folder", type=Path, help="where the files are made")
    parser.add_argument("--start", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.start is not None:
        count, wall, cpu = measure(lambda: load(args.start))
        print(f"{count} entries in {wall:.2f} s ({cpu:.2f} s of processor time)")
        return
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]}")
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        os.environ["IFF_DETECTRON2_CACHE"] = str(folder / "cache")
        files = make_tree(folder / "files", args.files, links=False)
        for title, function in (
            ("ElementTree alone", lambda: element_tree_alone(files[: len(files) // 4])),
            ("first start", lambda: load(folder / "files")),
        ):
            count, wall, cpu = measure(function)
            print(
                f"{title}: {count} files in {wall:.1f} s, {count / wall:.0f} a second "
                f"({count / cpu:.0f} a second of processor time)"
            )
        print(f"second start: {second_start(folder / 'files')}")
        size = cache_path(folder / "files", IMAGE_SET).stat().st_size
        print(f"its cache: {size / 2**20:.1f} MiB, {size / len(files):.0f} bytes a file")
        make_tree(folder / "links", args.entries, links=True)
        load(folder / "links")
        print(f"second start: {second_start(folder / 'links')}")


if __name__ == "__main__":
    main()
