"""Videos as folders of frames, found from the files that an annotation file names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .frame_folder import FrameNames, FramePattern, FramePosition, image_names


class FolderVideos:
    """Finds the frames beside the annotated ones; looks into each folder once.

    Args:
        root: folder that the names are below.
        names: the annotated files.
        number: see `FrameNames`.

    Attributes:
        videos: files of all frames of each video that was met.
        numbers: their numbers.
    """

    def __init__(self, root: Path, names: Iterable[str], number: str | None) -> None:
        self._root = root
        listed = list(names)
        folders = {name.rpartition("/")[0]: None for name in listed}
        beside = [
            f"{folder}/{name}" if folder else name
            for folder in folders
            if (root / folder).is_dir()  # a missing one is told of with the image that is in it
            for name in image_names(root / folder)
        ]
        # What varies is found among all files: maybe one frame of each video is annotated.
        self._names = FrameNames(dict.fromkeys([*listed, *beside]), number)
        self._found: dict[FramePattern, dict[str, int]] = {}
        self.videos: dict[str, Sequence[str]] = {}
        self.numbers: dict[str, Sequence[int]] = {}

    def position(self, name: str, place: str) -> FramePosition | None:
        """Video and frame of a file; None if its name has no number, so that it is a still.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: the names of a video's frames differ in more than their number.
        """
        parts = self._names.split(name)
        if parts is None:
            return None
        pattern, number = parts
        video_id = pattern.video_id or self._root.absolute().name
        if pattern not in self._found:
            if video_id in self.videos:
                raise ValueError(
                    f"{place}: {name!r} and other frames of {video_id!r} differ in more than their "
                    "number; the frames of a video have one extension and one form of name"
                )
            files = self._names.on_disk(self._root, pattern)
            self._found[pattern] = {name: frame for frame, name in enumerate(files.values())}
            self.videos[video_id] = [f"{self._root}/{file}" for file in files.values()]
            self.numbers[video_id] = list(files)
        frame = self._found[pattern].get(name)
        if frame is None:
            raise FileNotFoundError(f"{place}: the frame {self._root / name} does not exist")
        return FramePosition(video_id, frame, number)
