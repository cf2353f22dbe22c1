"""YAML from anywhere: plain values, in time and memory in proportion to the file."""

from __future__ import annotations

from typing import Any

import yaml

# Values of a file, those that its aliases repeat counted each time. The largest config of ours has
# some hundred.
MOST_VALUES = 100_000

# Characters of a number, beyond which Python refuses most; one to the base of 60 (1:30:00) takes
# time in the square of its length.
LONGEST_NUMBER = 4300
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def load_plain_yaml(text: str) -> Any:
    """Read YAML as `yaml.safe_load` does, except that aliases cannot make much of little.

    A few lines of aliases to lines of aliases stand for more values than a memory holds, once
    somebody copies what was read.

    Raises:
        yaml.YAMLError: whatever is wrong with it, the values of scalars included.
        RecursionError: it is nested too deeply.
    """
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _values(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"with its aliases it has more than {MOST_VALUES} values")
        return loader.construct_document(node)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # 2001-99-99 and !!bool x, for which PyYAML has no error of its own.
        raise yaml.YAMLError(str(error)) from None
    finally:
        loader.dispose()


def _values(node: yaml.Node, counts: dict[int, int]) -> int:
    """Count the values of a node as if each alias were written out."""
    if isinstance(node, yaml.ScalarNode):
        if node.tag in _NUMBERS and len(node.value) > LONGEST_NUMBER:
            raise yaml.YAMLError(f"a number of it has more than {LONGEST_NUMBER} characters")
        return 1
    known = counts.get(id(node))
    if known is None:
        counts[id(node)] = MOST_VALUES + 1  # what stands within itself has no end
        parts = node.value
        if isinstance(node, yaml.MappingNode):
            parts = [part for pair in parts for part in pair]
        known = counts[id(node)] = 1 + sum(_values(part, counts) for part in parts)
    return known
