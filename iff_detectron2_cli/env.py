"""`iff-detectron2 env`: the versions report for bug reports."""

from __future__ import annotations

import argparse

HELP = "print the versions of system, libraries and GPU, as a bug report needs them"
EXAMPLE = "iff-detectron2 env"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the verb has no options."""


def run(args: argparse.Namespace) -> int:
    """Print the report."""
    from iff_detectron2.utils.collect_env import collect_env_report

    print(collect_env_report())
    return 0
