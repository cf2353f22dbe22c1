"""The command `iff-detectron2`: one module of this package for each verb."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from typing import Any

from .arguments import Help, Parser, did_you_mean, run_told

VERBS = (
    *("demo", "predict", "flow", "train", "adapt", "evaluate", "postprocess"),
    *("export", "synth", "doctor", "index", "convert", "env"),
)


def front_parser() -> Parser:
    """Return the parser of what stands before a verb, which lists the verbs."""
    parser = Parser(prog="iff-detectron2", description="Video object detection for Detectron2.")
    version = importlib.metadata.version("iff_detectron2")
    parser.add_argument("--version", action="version", version=f"iff-detectron2 {version}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for verb in VERBS:
        verbs.add_parser(verb, help=importlib.import_module(f".{verb}", __package__).HELP)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one verb and return its exit code; what the user did wrong ends with one sentence."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] not in VERBS:
        front = front_parser()
        if words and not words[0].startswith("-"):
            hint = did_you_mean(words[0], VERBS) or f"; the verbs are {', '.join(VERBS)}"
            front.error(f"there is no verb {words[0]!r}{hint}")
        front.parse_args(words)
    verb = importlib.import_module(f".{words[0]}", __package__)
    name, example = f"iff-detectron2 {words[0]}", f"example: {verb.EXAMPLE}"
    parser = Parser(prog=name, description=verb.HELP, epilog=example, formatter_class=Help)

    def answer() -> Any:
        verb.add_arguments(parser)  # some defaults are the package's
        return verb.run(parser.parse_args(words[1:]))

    return run_told(parser.prog, answer)


if __name__ == "__main__":
    sys.exit(main())
