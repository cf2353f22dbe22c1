"""A loader for testing on streams that reads each frame once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import tee
from typing import Any, cast

from detectron2.data import DatasetFromList, MapDataset
from torch.utils.data import DataLoader, Dataset, Sampler

from .dataset_mapper import ReadyImage, VIDDatasetMapper


@dataclass(frozen=True)
class _Step:
    """One sample.

    Attributes:
        position: of its dict.
        read: files that nobody has read before.
        kept: files that are key frames later.
    """

    position: int
    read: list[str]
    kept: set[str]


class _ReadyImages(Dataset):
    """Frames by their file; a worker reads and resizes one."""

    def __init__(self, mapper: VIDDatasetMapper) -> None:
        self._mapper = mapper

    def __getitem__(self, file_name: str) -> ReadyImage:
        return self._mapper.read_ready(file_name)


class StreamLoader:
    """Batches of one sample, in the order of a sampler, of whose frames each is read once.

    A frame is the new one of a window long before it is a key frame. A loader whose workers map a
    dataset dict each reads it twice; here workers read frames, and this process puts the samples
    together and keeps the few frames that are key frames later. Samples are those of the mapper.

    Attributes:
        dataset: the mapped samples by position, each with all that it needs read anew.
    """

    def __init__(
        self,
        dataset_dicts: Sequence[dict[str, Any]],
        mapper: VIDDatasetMapper,
        sampler: Sampler[int],
        num_workers: int = 0,
    ) -> None:
        """
        Args:
            dataset_dicts: of the test set.
            mapper: in testing and streaming; its augmentations must draw nothing.
            sampler: positions of whole videos, their frames in order.
            num_workers: processes that read; 0 to read in this one.
        """
        self.dataset = MapDataset(DatasetFromList(list(dataset_dicts), copy=False), mapper)
        self._dicts, self._mapper, self._sampler = dataset_dicts, mapper, sampler
        self._num_workers = num_workers

    def __len__(self) -> int:
        return len(cast(Sized, self._sampler))

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        steps, ahead = tee(self._steps())
        files = (file for step in ahead for file in step.read)
        reader = DataLoader(
            _ReadyImages(self._mapper),
            sampler=cast(Any, files),
            batch_size=None,
            num_workers=self._num_workers,
            collate_fn=cast(Any, _as_it_is),
        )
        read = iter(reader)
        images: dict[str, ReadyImage] = {}
        for step in steps:
            images.update((file, next(read)) for file in step.read)
            yield [self._mapper.put_together(self._dicts[step.position], images)]
            images = {file: image for file, image in images.items() if file in step.kept}

    def _steps(self) -> Iterator[_Step]:
        video = None
        ready: dict[str, int] = {}
        for position in self._sampler:
            sample: Mapping[str, Any] = self._dicts[position]
            # A still is a video of its own.
            own = sample.get("video_id", position)
            if own != video:
                video, ready = own, {}
            t = sample.get("frame_index", 0)
            files, offsets = self._mapper.refs(sample)
            needed = {**dict(zip(files, offsets, strict=True)), sample["file_name"]: 0}
            read = [file for file in needed if file not in ready]
            ready.update((file, t + needed[file]) for file in read)
            ready = {file: index for file, index in ready.items() if index > t}
            yield _Step(position, read, set(ready))


def _as_it_is(item: ReadyImage) -> ReadyImage:
    return item
