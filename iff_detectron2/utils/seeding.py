"""Random numbers that depend on what they are for, not on how many were drawn before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_generators(*purpose: int, gpus: bool = True) -> None:
    """Seed the global generators of Python, numpy and torch.

    Args:
        purpose: non-negative integers that tell what the numbers are for; the same ones give the
            same numbers, in every process.
        gpus: seed the generators of torch's other devices too.
    """
    state = np.random.SeedSequence(purpose).generate_state(8)
    np.random.seed(state[:4])  # noqa: NPY002
    random.seed(int(state[4]) << 32 | int(state[5]))
    seed = int(state[6]) << 31 | int(state[7]) >> 1
    if gpus:
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def seeded(*purpose: int) -> Iterator[None]:
    """Seed the global generators of the processor for a block, and put them back behind it."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    seed_generators(*purpose, gpus=False)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
