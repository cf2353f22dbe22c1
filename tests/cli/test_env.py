from __future__ import annotations

import argparse

import torch

from iff_detectron2_cli import env


def test_env_prints_the_report(capsys):
    parser = argparse.ArgumentParser()
    env.add_arguments(parser)
    assert env.run(parser.parse_args([])) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("iff_detectron2 ")
    assert any(line.split() == ["torch", torch.__version__] for line in lines)
    assert env.HELP
