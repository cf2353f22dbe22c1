import pytest

from iff_detectron2.cli.main import VERBS, main


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb, capsys):
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0
    assert verb in capsys.readouterr().out


def test_unknown_verb_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit) as end:
        main(["fly"])
    assert end.value.code == 2
    error = capsys.readouterr().err
    assert "'fly'" in error
    assert all(verb in error for verb in VERBS)


def test_a_users_mistake_ends_with_one_sentence(capsys):
    assert main(["demo", "--config-file", "nowhere.yaml"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("iff-detectron2 demo: nowhere.yaml does not exist")
    assert error.count("\n") == 1
