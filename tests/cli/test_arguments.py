import argparse
import warnings

import pytest

from iff_detectron2_cli.arguments import Parser, did_you_mean, run_told


@pytest.fixture
def parser() -> Parser:
    parser = Parser(prog="tool")
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--weights")
    parser.add_argument("--restart", action="store_true")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    return parser


@pytest.mark.parametrize(
    ("words", "opts"),
    [
        ("A.B 1 --weights w", ["A.B", "1"]),
        ("--weights w A.B 1 C -2", ["A.B", "1", "C", "-2"]),
        ("A.B 1 --restart --weights w C [2]", ["A.B", "1", "C", "[2]"]),
        ("A.B -1e-3 --weights w C 2 --restart", ["A.B", "-1e-3", "C", "2"]),
        ("a.b=1 --weights w c.d=[1,2] --restart", ["a.b=1", "c.d=[1,2]"]),
        ("A.B x=1 --weights=w", ["A.B", "x=1"]),
        ("--weights w", []),
    ],
)
def test_options_may_stand_before_between_and_behind_overrides(parser, words, opts):
    args = parser.parse_args(["--config-file", "f", *words.split()])
    assert args.opts == opts
    assert (args.config_file, args.weights) == ("f", "w")
    assert args.restart == ("--restart" in words)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("A.B", "the override A.B has no value"),
        ("A.B 1 C", "the override C has no value"),
        ("A.B --restart", "the override A.B has no value"),
        ("A.B 1 --wieghts w", "--wieghts is not known here; did you mean --weights?"),
        ("--restrat", "--restrat is not known here; did you mean --restart?"),
        ("--weights", "argument --weights: expected one argument"),
    ],
)
def test_what_is_wrong_is_one_sentence(parser, words, sentence, capsys):
    with pytest.raises(SystemExit) as end:
        parser.parse_args(["--config-file", "f", *words.split()])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(f"tool: {sentence}")
    assert error.count("\n") == 1


def test_what_is_meant():
    known = ("MODEL.WEIGHTS", "MODEL.MASK_ON", "FlowNetS")
    assert did_you_mean("MODEL.WEIHGTS", known) == "; did you mean MODEL.WEIGHTS?"
    assert did_you_mean("flownets", known) == "; did you mean FlowNetS?"
    assert did_you_mean("quite_another", known) == ""


def test_an_option_behind_a_name_is_refused_and_not_read_for_ever(capsys):
    parser = Parser(prog="p")
    parser.add_argument("name")
    parser.add_argument("--option")
    parser.add_argument("opts", nargs=argparse.REMAINDER)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["name", "--option", "value"])
    assert "write --option before" in capsys.readouterr().err
    assert parser.parse_args(["--option", "v", "name", "K", "1"]).opts == ["K", "1"]


def test_a_warning_that_no_user_can_act_on_is_not_shown():
    def run():
        warnings.warn("torch.meshgrid: in an upcoming release, it will be", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert run_told("prog", run) == 0
    assert [str(warning.message) for warning in shown] == ["something else"]
