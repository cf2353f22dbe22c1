"""Batches depend on the seed and their number, and on nothing else."""

from __future__ import annotations

import logging
import random
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.data.samplers import TrainingSampler

from iff_detectron2.data import TrainingStream

DICTS = [
    {"file_name": f"{i}.jpg", "width": 4 if i % 3 else 2, "height": 3, "ref_offsets": [1]}
    for i in range(20)
]


def mapper(record):
    numbers = (float(np.random.random()), random.random(), float(torch.rand(())))  # noqa: NPY002
    return {**record, "numbers": numbers}


def bad_mapper(record):
    if record["file_name"] in ("3.jpg", "4.jpg"):
        raise OSError("cut off")
    return mapper(record)


def stream(make=mapper, **options):
    options = {"batch_size": 2, "group_by_shape": True, **options}
    return TrainingStream(DICTS, make, lambda: TrainingSampler(len(DICTS)), **options)


def batches(of, count, seed=5, done=0):
    of.begin(seed, done)
    return list(islice(of, count))


def test_order_and_random_numbers_follow_from_the_seed():
    expected = batches(stream(), 30)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert batches(stream(num_workers=2), 30) == expected
    assert batches(stream(), 8, done=22) == expected[22:]
    assert torch.equal(torch.get_rng_state(), state)  # the model's are its own
    assert batches(stream(), 30, seed=6) != expected
    numbers = [sample["numbers"] for batch in expected for sample in batch]
    assert len(set(numbers)) == 60
    # Each sample comes once an epoch, but for those that wait for one of their shape.
    names = [sample["file_name"] for batch in expected[:20] for sample in batch]
    assert all(1 <= names.count(record["file_name"]) <= 3 for record in DICTS)
    assert all(len({sample["width"] for sample in batch}) == 1 for batch in expected)


def test_bad_files_end_the_training_unless_they_are_to_be_skipped(caplog):
    with pytest.raises(OSError, match="cut off"):
        batches(stream(bad_mapper), 20)
    logging.getLogger("iff_detectron2").propagate = True
    skipping = stream(bad_mapper, bad_data="skip", bad_data_limit=2)
    with caplog.at_level(logging.WARNING):
        skipped = batches(skipping, 30)
    assert skipping.bad_files == {"3.jpg": "cut off", "4.jpg": "cut off"}
    # One record each, however many handlers see it.
    said = {id(r): r.getMessage() for r in caplog.records if "cannot be read" in r.getMessage()}
    assert sorted(message.count("3.jpg") for message in said.values()) == [0, 1]
    # The others are as they were, and what takes their place has their shape.
    for batch, good in zip(skipped, batches(stream(), 30), strict=True):
        for sample, other in zip(batch, good, strict=True):
            assert "replaced" not in sample
            assert sample["width"] == other["width"]
            assert sample["file_name"] not in ("3.jpg", "4.jpg")
            if other["file_name"] not in ("3.jpg", "4.jpg"):
                assert sample == other
    again = stream(bad_mapper, bad_data="skip", bad_data_limit=2, num_workers=2)
    assert batches(again, 10, done=20) == skipped[20:]


def test_more_bad_files_than_allowed_end_the_training():
    few = stream(bad_mapper, bad_data="skip", bad_data_limit=1)
    with pytest.raises(OSError, match="2 images cannot be read, more than"):
        batches(few, 30)

    def all_bad(record):
        raise ValueError(record["file_name"])

    with pytest.raises(OSError, match="20 samples in a row cannot be read"):
        batches(stream(all_bad, bad_data="skip", bad_data_limit=100), 1)


@pytest.mark.parametrize(("key", "value"), [("bad_data", "ignore"), ("bad_data_limit", -1)])
def test_wrong_options_are_named(key, value):
    with pytest.raises(ValueError, match=f"DATALOADER.{key.upper()}"):
        stream(**{key: value})
