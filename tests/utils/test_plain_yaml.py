"""YAML is read as PyYAML reads it, or refused soon."""

from __future__ import annotations

import time

import pytest
import yaml
from detectron2.config import CfgNode

from iff_detectron2.engine import load_config
from iff_detectron2.utils.plain_yaml import MOST_VALUES, load_plain_yaml


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a: [1, 2.5, yes, null, '3', 2001-02-03, 0x10]\nb: {c: (1, 2)}\n",
        "base: &base {x: 1, y: [2]}\nown: {<<: *base, y: 3}\nsame: [*base, *base]\n",
    ],
)
def test_as_pyyaml_reads_it(text):
    assert load_plain_yaml(text) == yaml.safe_load(text)


def nested(levels: int, line: str) -> str:
    """Write lines in which each stands for twice the line before."""
    lines = [f"A{i}: &a{i} {line.format(i - 1)}\n" for i in range(1, levels)]
    return "A0: &a0 {X: 1}\n" + "".join(lines)


BOMBS = {
    "tables": nested(40, "{{K: *a{0}, L: *a{0}}}"),
    "lists": nested(40, "[*a{0}, *a{0}]"),
    "merged": nested(40, "{{<<: [*a{0}, *a{0}]}}"),
    "itself": "A: &a [*a]\n",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_aliases_do_not_make_much_of_little(tmp_path, bomb):
    path = tmp_path / "config.yaml"
    path.write_text(BOMBS[bomb])
    began = time.process_time()
    with pytest.raises(ValueError, match=rf"config\.yaml.* more than {MOST_VALUES} values"):
        load_config(str(path))
    assert time.process_time() - began < 2


def test_the_bomb_is_one():
    """With each line, a config of Detectron2 becomes twice as large."""

    def size(node: dict) -> int:
        return 1 + sum(size(value) for value in node.values() if isinstance(value, dict))

    sizes = [size(CfgNode(yaml.safe_load(nested(n, "{{K: *a{0}, L: *a{0}}}")))) for n in (6, 7, 8)]
    assert sizes[2] - sizes[1] > 1.9 * (sizes[1] - sizes[0])


@pytest.mark.parametrize(
    "value", ["9" * 5000, "2001-99-99", "!!bool x", "!!timestamp x", "!!int x", "0x_"]
)
def test_values_that_pyyaml_stumbles_over_are_named(tmp_path, value):
    path = tmp_path / "config.yaml"
    path.write_text(f"OUTPUT_DIR: {value}\n")
    with pytest.raises(ValueError, match=r"the config .*config\.yaml is no YAML"):
        load_config(str(path))


@pytest.mark.parametrize("value", ["1:" * 500_000 + "1", "9" * 500_000, "1:" * 500_000 + "1.5"])
def test_numbers_of_a_length_that_none_has_are_refused_at_once(value):
    began = time.process_time()
    with pytest.raises(yaml.YAMLError, match="more than 4300 characters"):
        load_plain_yaml(f"a: [1, {value}]\n")
    assert time.process_time() - began < 10
