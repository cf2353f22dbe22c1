"""`iff-detectron2 doctor`: check a dataset on disk."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from .config import add_detector_arguments
from .dataset_name import dataset_name

if TYPE_CHECKING:
    from iff_detectron2.doctor import Report

HELP = "check a dataset on disk: files, frame numbers, boxes, classes, tracks, known counts"
EXAMPLE = "iff-detectron2 doctor my_val=mot_challenge:path/to/sequence@401-500"

DESCRIPTION = """Check a dataset on disk and print one page of findings.

Besides a dataset's name, or NAME=FORMAT:PATH, a path alone will do: then the format is found out,
and the line that registers the dataset is printed. With a video detector (--config-file and
--weights) the page also says whether its alignment helps on these videos, and what to set if not.
Exit code: 0 clean, 1 problems found, 2 the dataset cannot be read.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.description = DESCRIPTION
    parser.add_argument(
        "dataset",
        metavar="DATASET",
        help="a registered dataset, NAME=FORMAT:PATH[@PART] as in DATASETS.REGISTER, or a file or "
        "folder whose format is to be found out",
    )
    parser.add_argument(
        "--decode",
        action="store_true",
        help="decode every frame, unlabelled too (default: headers, and JPEGs without their end)",
    )
    parser.add_argument("--strict", action="store_true", help="notes count as findings too")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the page")
    add_detector_arguments(parser, required=False)


def run(args: argparse.Namespace) -> int:
    """Check the dataset, print what was found, and return 0, 1 or 2."""
    from detectron2.data import DatasetCatalog

    from iff_detectron2.data import recognize
    from iff_detectron2.doctor import Report, examine, format_report

    if args.weights and not args.config_file:
        raise ValueError("--weights are of a detector: add its --config-file")
    dataset, path = args.dataset, Path(args.dataset).expanduser()
    name = dataset.partition("=")[0]
    try:
        if "=" not in dataset and dataset not in DatasetCatalog and path.exists():
            name = re.sub(r"[=\s]", "_", path.absolute().stem)
            dataset = f"{name}={recognize(path)}"
        dataset_name(dataset, args.imports)
    except (OSError, ValueError) as error:
        report = Report(name, unreadable=str(error))
    else:
        report = examine(name, args.decode)
    if args.config_file and not report.unreadable:
        _add_alignment(report, args)
    if args.json:
        print(json.dumps(report.to_json(args.strict), indent=2))
    else:
        print(format_report(report))
    return report.exit_code(args.strict)


def _add_alignment(report: Report, args: argparse.Namespace) -> None:
    """Say in the report whether the alignment of a detector helps on the dataset."""
    from iff_detectron2.doctor import Finding
    from iff_detectron2.engine.alignment_quality import advice
    from iff_detectron2.engine.defaults import read_config
    from iff_detectron2.engine.frame_detector import load_model
    from iff_detectron2.engine.measured_videos import measure_a_few

    args.opts = []
    try:
        cfg = read_config(args)
        quality = measure_a_few(cfg, load_model(cfg), report.dataset)
    except (OSError, ValueError) as error:  # what was found in the dataset is not lost with it
        text = f"the alignment was not measured: {error}"
        report.findings.append(Finding("problem", "alignment", text))
        return
    if quality.helps is False:
        report.findings.append(Finding("note", "alignment", advice(quality)))
    else:
        report.summary["alignment"] = advice(quality)
