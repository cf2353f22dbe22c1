"""Damage for files, and what must come of reading them: a result, or one sentence."""

from __future__ import annotations

import copy
import json
import random
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Inputs of each kind in the suite and by `make test-slow`.
FEW, MANY = 500, 20_000
NUM_INPUTS = pytest.mark.parametrize(
    "num_inputs", [FEW, pytest.param(MANY, marks=pytest.mark.endurance)], ids=["few", "many"]
)
SECONDS = 5.0  # of computing, for one small file

# What tends to be used before it is checked.
TOKENS = (
    *(
        b"-1",
        b"0",
        b"1e999",
        b"-1e999",
        b"1.5",
        b"nan",
        b"NaN",
        b"Infinity",
        b"0.5",
        b"99999999999",
    ),
    *(b"9" * 25, b"9" * 5000, b"[" * 3000, b"null", b"true", b"[]", b"{}", b'""', b'"x"', b"[[]]"),
    *(b"\xff", b"\xff\xfe", b"\x00", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xed\xa0\x80"),
    *(b"\\ud800", b"\\", b"\n", b"..", b"../", b"/etc/passwd", b"@", b",", b",,", b" ", b"\t"),
    *(b":", b'"', b"'", b"<", b"</", b"&", b"&x;", b"<!DOCTYPE a>", b"<![CDATA["),
)
VALUES = (None, True, -1, 0, 0.5, 2**70, 1e308, "", "x", "\ud800", [], [[]], {}, [None])


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Change a file in one to three places."""
    for _ in range(chance.randint(1, 3)):
        start = chance.randrange(len(data) + 1)
        stop = min(len(data), start + chance.choice((0, 1, 1, 2, 5, 20)))
        kind = chance.randrange(5)
        if kind == 0:
            data = data[:start] + chance.choice(TOKENS) + data[stop:]
        elif kind == 1:
            data = data[:start] + chance.randbytes(stop - start) + data[stop:]
        elif kind == 2:
            data = data[:start] + data[stop:] if chance.random() < 0.9 else data[:start]
        elif kind == 3:
            data = data[:stop] + data[start:]
        else:
            data = _other_number(data, start, chance)
    return data


def _other_number(data: bytes, start: int, chance: random.Random) -> bytes:
    """Put a token in the place of the next number or word."""
    match = re.compile(rb"[\w.+-]+").search(data, start)
    if match is None:
        return data
    return data[: match.start()] + chance.choice(TOKENS) + data[match.end() :]


def with_other_values(data: bytes, chance: random.Random) -> bytes:
    """Put values of other types into JSON, in one line or many, which bytes seldom hit."""
    try:
        content = [json.loads(data)]
    except ValueError:
        content = [json.loads(line) for line in data.splitlines()]
    for _ in range(chance.randint(1, 2)):
        holder, key = content, chance.randrange(len(content))
        while True:
            below = holder[key]
            if not isinstance(below, dict | list) or not below or chance.random() < 0.2:
                holder[key] = copy.deepcopy(chance.choice(VALUES))
                break
            holder = below
            key = chance.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
    return b"\n".join(json.dumps(part).encode() for part in content) + b"\n" * (len(content) > 1)


def inputs(path: Path, count: int) -> Iterator[bytes]:
    """Damage a file in so many ways, the same each time."""
    data, chance = path.read_bytes(), random.Random(path.name)
    for number in range(count):
        if path.suffix in (".json", ".jsonl") and number % 2:
            yield with_other_values(data, chance)
        else:
            yield damaged(data, chance)


def check_damage(
    path: Path, read: Callable[[], None], count: int, names: tuple[str, ...] = ()
) -> int:
    """Let a file be read whole, in so many damaged forms, and whole again.

    Args:
        path: the file.
        read: reads it; must end in ValueError or OSError that names it, or well, and soon.
        count: how many forms.
        names: what an error may name instead.

    Returns:
        How many were refused.
    """
    whole = path.read_bytes()
    read()
    refused = 0
    for number, data in enumerate(inputs(path, count)):
        path.write_bytes(data)
        began = time.process_time()
        try:
            read()
        except (ValueError, OSError) as error:
            shown = number, repr(error), data[:2000]
            assert any(name in str(error) for name in (path.name, *names)), shown  # noqa: PT017
            refused += 1
        except Exception as error:
            raise AssertionError(f"input {number}, {data[:2000]!r}: {error!r}") from error
        assert time.process_time() - began < SECONDS, (number, data[:2000])
    path.write_bytes(whole)
    read()
    return refused
