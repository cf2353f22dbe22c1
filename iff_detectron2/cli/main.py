"""The command `iff-detectron2`: one module of this package for each verb."""

from __future__ import annotations

import argparse
import importlib
import sys

VERBS = (
    *("synth", "index", "doctor", "demo", "convert"),
    *("predict", "flow", "evaluate", "postprocess", "env"),
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="iff-detectron2", description="Video object detection for Detectron2."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        module = importlib.import_module(f"iff_detectron2.cli.{verb}")
        sub = verbs.add_parser(verb, help=module.HELP, description=module.HELP)
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return its exit code; what the user did wrong ends with one sentence."""
    args = build_parser().parse_args(argv)
    try:
        return args.run(args)
    except (ValueError, OSError, ImportError) as error:
        print(f"iff-detectron2 {args.verb}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
