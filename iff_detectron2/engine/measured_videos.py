"""The videos of a test set as a detector sees them, with the tracks of what is annotated."""

from __future__ import annotations

from collections.abc import Iterator

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from torch import Tensor

from iff_detectron2.data.network_input import NetworkInput
from iff_detectron2.data.video_index import build_video_index
from iff_detectron2.modeling.track_motion import Tracks
from iff_detectron2.video.frames import read_frame

from .alignment_quality import AlignmentQuality, measure_alignment, tracks_of

# What is looked at when a training ends: enough for a sentence, a minute's work at most.
FEW_VIDEOS, FEW_FRAMES = 5, 40


class MeasuredVideos:
    """Videos of a registered set in the network's size, and their tracks in the same pixels.

    Attributes:
        files: files of the frames of each video.
        tracks: boxes by track id of each frame; empty where a frame is not listed.
        scale: pixels of the network's input per pixel of a frame, in x.
    """

    def __init__(
        self, cfg: CfgNode, name: str, *, max_videos: int = 0, max_frames: int = 0
    ) -> None:
        """
        Args:
            cfg: config of the detector; says how a frame becomes its input.
            name: registered name of the set.
            max_videos: videos to take, spread evenly; 0 for all.
            max_frames: frames to take of each, from its start; 0 for all.
        """
        index = build_video_index([name])
        chosen = list(index)[:: -(-len(index) // max_videos) if max_videos else 1]
        self.files = {video: list(index[video])[: max_frames or None] for video in chosen}
        listed = {sample["file_name"]: sample for sample in DatasetCatalog.get(name)}
        self.prepare = NetworkInput(cfg)
        self.tracks: dict[str, list[Tracks]] = {}
        self.scale = 1.0
        for video, files in self.files.items():
            first = read_frame(files[0], "BGR")
            height, width = self.prepare(first).shape[-2:]
            self.scale = width / first.shape[1]
            scale = self.scale, height / first.shape[0]
            annotations = (listed.get(file, {}).get("annotations", ()) for file in files)
            self.tracks[video] = [tracks_of(a, scale) for a in annotations]

    def images(self, video: str) -> Iterator[Tensor]:
        """Yield the images of a video one by one, [3, H, W]."""
        for file in self.files[video]:
            yield self.prepare(read_frame(file, "BGR"))


def measure_a_few(cfg: CfgNode, model, name: str) -> AlignmentQuality:
    """Measure the alignment on a few videos of a set, as far as the window of testing reaches.

    Args:
        cfg: config of the detector.
        model: the video detector, in evaluation mode; it must estimate a flow.
        name: registered name of the set.
    """
    videos = MeasuredVideos(cfg, name, max_videos=FEW_VIDEOS, max_frames=FEW_FRAMES)
    reach = max(1, cfg.TEST.VIDEO.NUM_REFS * cfg.TEST.VIDEO.STRIDE // 2)
    offsets = sorted({1, -(-reach // 2), reach})
    return measure_alignment(
        model,
        {video: videos.images(video) for video in videos.files},
        videos.tracks,
        offsets=[sign * offset for offset in offsets for sign in (-1, 1)],
        every=8,
    )
