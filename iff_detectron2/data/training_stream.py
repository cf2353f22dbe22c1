"""The endless stream of training batches, which can begin at any step.

Detectron2's own loader draws from generators that a restarted process cannot bring back: the
sampler's, and one in each worker, which gets whatever samples it is quick enough for. Here the
order is the sampler's and every sample draws from a generator of its own, seeded by its position in
the stream, so that neither the number of workers nor an interruption changes a batch.
"""

from __future__ import annotations

import logging
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetFromList, get_detection_dataset_dicts
from detectron2.data.build import _train_loader_from_config, trivial_batch_collator
from detectron2.utils import comm
from torch import Generator
from torch.utils.data import DataLoader, Dataset, Sampler

from iff_detectron2.utils.seeding import seeded

from .catalog import check_labelled, left_out_of
from .frame_errors import UnreadableFrame

Sample = dict[str, Any]
Key = tuple[int, int]  # position in the stream over all processes, index in the dataset

# What the random numbers of a run are for; part of the seeds.
SAMPLES, STEPS, SAMPLER = range(3)
# Samples that are tried in place of one that cannot be read.
_TRIES = 20
_REPLACED = "replaced"


class TrainingStream:
    """Batches of this process, without end; see the module.

    Attributes:
        latest: what the batch that was handed out last was made from, for messages.
        bad_files: reason by image of what could not be read so far (`BAD_DATA` "skip"): a frame,
            be it of a sample or a reference frame, or its labels.
    """

    def __init__(
        self,
        dicts: Sequence[Sample],
        mapper: Callable[[Sample], Sample],
        make_sampler: Callable[[], Sampler],
        *,
        batch_size: int,
        group_by_shape: bool,
        num_workers: int = 0,
        bad_data: str = "raise",
        bad_data_limit: int = 0,
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        """
        Args:
            dicts: dataset dicts.
            mapper: makes a sample of a dict.
            make_sampler: returns the sampler of this process, infinite; called when the seed is
                set, and again for each iteration over the stream.
            batch_size: samples of a batch of this process.
            group_by_shape: do not mix upright and broad images in a batch.
            num_workers: processes that make samples; 0 for this one.
            bad_data: "raise", or "skip" for another sample in place of one whose files cannot be
                read.
            bad_data_limit: most different images that may be skipped.
            left_out: reason by image of those that `dicts` lack already, as their labels cannot be
                read; they count.

        Raises:
            ValueError: for another `bad_data`, or a negative limit.
            OSError: more images are left out than may be.
        """
        if bad_data not in ("raise", "skip"):
            raise ValueError(f"DATALOADER.BAD_DATA must be raise or skip, got {bad_data!r}")
        if bad_data_limit < 0:
            raise ValueError(
                f"DATALOADER.BAD_DATA_LIMIT must not be negative, got {bad_data_limit}"
            )
        # Upright and broad, as Detectron2 tells them apart.
        self._broad = np.array([d["width"] > d["height"] for d in dicts] if group_by_shape else [])
        self._dicts = DatasetFromList(list(dicts), copy=False)
        self._mapper = mapper
        self._make_sampler = make_sampler
        self._batch_size = batch_size
        self._num_workers = num_workers
        self._skip = bad_data == "skip"
        self._limit = bad_data_limit
        self._seed = 0
        self._done = 0
        self.latest: list[str] = []
        self.bad_files: dict[str, str] = {}
        for file, reason in (left_out or {}).items():
            self._note(file, f"its labels are damaged: {reason}")

    @classmethod
    def from_config(cls, cfg: CfgNode, mapper: Callable[[Sample], Sample]) -> TrainingStream:
        """Read `DATASETS.TRAIN`; sampler, batches and workers are those of the config.

        Raises:
            ValueError: a dataset has no labels, or as the constructor.
            OSError: as the constructor.
        """
        for name in cfg.DATASETS.TRAIN:
            check_labelled(name)
        keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE
        dicts = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=keypoints if cfg.MODEL.KEYPOINT_ON else 0,
        )

        def make_sampler() -> Sampler:
            return _train_loader_from_config(cfg, mapper=mapper, dataset=dicts)["sampler"]

        make_sampler()  # what is wrong with its config is better known now
        return cls(
            dicts,
            mapper,
            make_sampler,
            batch_size=cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
            group_by_shape=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
            bad_data=cfg.DATALOADER.BAD_DATA,
            bad_data_limit=cfg.DATALOADER.BAD_DATA_LIMIT,
            left_out=ChainMap(*map(left_out_of, cfg.DATASETS.TRAIN)),
        )

    def begin(self, seed: int, done: int) -> None:
        """Let iterations over the stream begin behind its first `done` batches."""
        self._seed, self._done = seed, done

    def __iter__(self) -> Iterator[list[Sample]]:
        loader = DataLoader(
            _Samples(self._dicts, self._mapper, self._seed, self._skip, self._broad),
            batch_sampler=islice(self._batches(), self._done, None),
            num_workers=self._num_workers,
            collate_fn=trivial_batch_collator,
            # It would draw from the global one, and only where a run begins.
            generator=Generator(),
        )
        for batch in loader:
            for sample in batch:
                for file, reason in sample.pop(_REPLACED, ()):
                    self._note(file, reason)
            self.latest = [_description(sample) for sample in batch]
            yield batch

    def _batches(self) -> Iterator[list[Key]]:
        """Yield what each batch is made of, from the first one on."""
        with seeded(self._seed, SAMPLER):
            sampler = self._make_sampler()
        rank, world_size = comm.get_rank(), comm.get_world_size()
        waiting: tuple[list[Key], list[Key]] = ([], [])
        for number, index in enumerate(sampler):
            bucket = waiting[int(self._broad[index]) if len(self._broad) else 0]
            bucket.append((rank + number * world_size, int(index)))
            if len(bucket) == self._batch_size:
                yield bucket.copy()
                bucket.clear()

    def _note(self, file: str, reason: str) -> None:
        """Count a file that cannot be read; name it once."""
        if file in self.bad_files:
            return
        self.bad_files[file] = reason
        if len(self.bad_files) > self._limit:
            raise OSError(
                f"{len(self.bad_files)} images cannot be read, more than "
                f"DATALOADER.BAD_DATA_LIMIT; the last: {file}: {reason}"
            )
        logging.getLogger(__name__).warning(
            "another sample takes the place of %s, which cannot be read: %s", file, reason
        )


class _Samples(Dataset):
    """Makes the sample of a position; its random numbers are the position's."""

    def __init__(
        self,
        dicts: DatasetFromList,
        mapper: Callable[[Sample], Sample],
        seed: int,
        skip: bool,
        broad: np.ndarray,
    ) -> None:
        self._dicts = dicts
        self._mapper = mapper
        self._seed = seed
        self._skip = skip
        self._broad = broad

    def __getitem__(self, key: Key) -> Sample:
        position, index = key
        with seeded(self._seed, SAMPLES, position):
            if not self._skip:
                return self._mapper(self._dicts[index])
            return self._first_readable(index)

    def _first_readable(self, index: int) -> Sample:
        replaced: list[tuple[str, str]] = []
        candidates = np.arange(len(self._dicts))
        if len(self._broad):
            candidates = np.flatnonzero(self._broad == self._broad[index])
        for _ in range(_TRIES):
            record = self._dicts[index]
            try:
                return {**self._mapper(record), _REPLACED: replaced}
            except (OSError, ValueError) as error:
                # A reference frame makes many samples unreadable, but it is one file.
                named = isinstance(error, UnreadableFrame) and error.file
                replaced.append((named or record["file_name"], str(error)))
                last = error
            index = int(np.random.choice(candidates))  # noqa: NPY002
        raise OSError(
            f"{_TRIES} samples in a row cannot be read, which DATALOADER.BAD_DATA skip is not "
            f"meant for; the last: {replaced[-1][0]}: {last}"
        ) from last


def _description(sample: Sample) -> str:
    refs = sample.get("ref_offsets")
    return sample["file_name"] + (f" with reference frames at {refs}" if refs else "")
