import importlib
import json
import re
import subprocess
import sys

import pytest

from iff_detectron2_cli.arguments import Parser
from iff_detectron2_cli.main import VERBS, main

QUICK = """
import json, sys, time
from iff_detectron2_cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    code = end.code
heavy = {"torch", "detectron2", "cv2", "numpy", "iff_detectron2"} & set(sys.modules)
print(json.dumps({"code": code, "seconds": time.process_time(), "heavy": sorted(heavy)}))
"""


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        ([], 2),
        (["predit"], 2),
        (["predict", "--help"], 0),
        (["predict", "--ouput", "x"], 2),
        (["evaluate"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_help_and_typing_errors_are_answered_at_once(words, code):
    """One second of processor time, without the packages that take long to import."""
    result = subprocess.run(
        [sys.executable, "-c", QUICK, *words], capture_output=True, text=True, check=True
    )
    told = json.loads(result.stdout.splitlines()[-1])
    assert told["code"] == code
    assert told["heavy"] == []
    assert told["seconds"] < 1


def test_version_is_the_package_s(capsys):
    from iff_detectron2 import __version__

    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"iff-detectron2 {__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    assert verb in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_the_example_of_a_verb_is_one(verb, capsys):
    """It stands in the help, and its arguments are understood."""
    module = importlib.import_module(f"iff_detectron2_cli.{verb}")
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    assert capsys.readouterr().out.endswith(f"\nexample: {module.EXAMPLE}\n")
    parser = Parser(prog=verb)
    module.add_arguments(parser)
    program, name, *words = module.EXAMPLE.split()
    assert (program, name) == ("iff-detectron2", verb)
    parser.parse_args(words)


def test_help_lists_the_verbs(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    shown = capsys.readouterr().out
    assert set(VERBS) <= set(shown.split())


def test_the_command_keeps_its_old_module():
    from iff_detectron2.cli import main as old

    assert old.main is main


def test_a_users_mistake_ends_with_one_sentence(capsys):
    assert main(["demo", "--config-file", "nowhere.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("iff-detectron2 demo: the config nowhere.yaml does not")
    assert error.count("\n") == 1


WITHOUT_DETECTRON2 = """
import contextlib, importlib, importlib.util, io, shlex, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "detectron2" else find_spec(name, *a)
sys.modules["detectron2"] = None
from iff_detectron2_cli.main import VERBS, main
for verb in VERBS:
    example = importlib.import_module(f"iff_detectron2_cli.{verb}").EXAMPLE
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main(shlex.split(example)[1:])
    if verb == "env":  # a report of what is missing needs nothing
        assert code == 0
        continue
    assert code == 2, verb
    told = f"iff-detectron2 {verb}: iff_detectron2 needs detectron2"
    assert said.getvalue().startswith(told), verb
    assert said.getvalue().count("\\n") == 1, verb
"""


def test_every_verb_says_that_detectron2_is_missing(tmp_path):
    """As after `pipx install`, which cannot bring it."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_DETECTRON2],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_defaults_are_told_by_one_phrase():
    """At the end of the help in brackets, and of every option that has one."""
    options, wrong = 0, []
    for verb in VERBS:
        parser = Parser(prog=verb)
        importlib.import_module(f"iff_detectron2_cli.{verb}").add_arguments(parser)
        for action in parser._actions:
            said = (action.help or "").replace("%(default)s", "X")
            options += 1
            told = re.search(r" \(default: [^()]+\)$", said)
            has = action.option_strings and action.default not in (None, False, [], "==SUPPRESS==")
            if (has or "default" in said) and not told:
                wrong.append(f"{verb} {action.option_strings or action.dest}: {said}")
    assert options > 80
    assert not wrong
