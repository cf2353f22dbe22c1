"""A detector over a whole video: frames in; predictions, tracks and an annotated video out."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from itertools import chain, islice, takewhile
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from tqdm import tqdm

from iff_detectron2.engine.postprocess import build_postprocess
from iff_detectron2.engine.predictor import VideoPredictor
from iff_detectron2.engine.preflight import check_classes
from iff_detectron2.structures import Detections
from iff_detectron2.utils.folder_lock import owned_folder
from iff_detectron2.video.sources import CameraSource, FrameSource, bridged

from .journal import Journal
from .known_data import frames_of_source, known_classes
from .output import VIDEO, AnnotatedVideo, write_annotated_video, write_results

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class VideoRun:
    """What to write of a video, and where.

    Attributes:
        output: folder for the results.
        formats: of `video_output.FORMATS`, beside the JSON.
        draw: write an annotated video.
        draw_threshold: detections with a lower score are not drawn.
        progress: show progress bars.
        restart: begin anew in a folder that holds a run.
    """

    output: Path
    formats: Sequence[str] = ()
    draw: bool = True
    draw_threshold: float = 0.5
    progress: bool = True
    restart: bool = False


def predict_video(
    cfg: CfgNode,
    predictor: VideoPredictor,
    source: FrameSource,
    run: VideoRun,
    *,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[str], None] = print,
) -> bool:
    """Detect in a video and write what was found into `run.output`.

    Every frame is noted in a journal when it is done. A run that ended early, in whatever way, is
    taken up there by the next call with the same arguments, and ends with the same files. Where a
    frame cannot be decoded, the last good one stands in (at the start the first good one).

    Args:
        cfg: config of the predictor.
        predictor: detects; what it was at is forgotten.
        source: the video.
        run: what to write where.
        stop: asked between two frames whether to end early.
        report: takes sentences for the user.

    Returns:
        Whether the video was gone through to its end.

    Raises:
        BlockingIOError: another process writes into the folder.
        ValueError: for class names other than the model's, a folder with another run, a video that
            does not fit into memory or of which no frame can be read.
    """
    with owned_folder(run.output):
        return _predict_video(cfg, predictor, source, run, stop, report)


def _predict_video(
    cfg: CfgNode,
    predictor: VideoPredictor,
    source: FrameSource,
    run: VideoRun,
    stop: Callable[[], bool],
    report: Callable[[str], None],
) -> bool:
    postprocess = build_postprocess(cfg)
    live = isinstance(source, CameraSource)
    path = run.output / JOURNAL
    if run.restart:
        path.unlink(missing_ok=True)
    if live and path.exists():
        raise ValueError(
            f"{run.output} holds a run already, and a camera cannot go on where it ended; choose "
            "another output folder, or begin anew in this one"
        )
    check_classes(predictor.model, (), (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)[:1])
    classes = known_classes(cfg)
    with Journal(path, {"source": source.identity(), "config": fingerprint(cfg)}) as journal:
        if journal.num_frames:
            report(f"{journal.num_frames} frames are done already")
        if not journal.complete:
            # A camera shows each frame once, so that it must be drawn at once.
            at_once = live and run.draw
            drawing = AnnotatedVideo(run.output / VIDEO, source.fps, run.draw_threshold)
            with drawing if at_once else nullcontext() as video:
                for frame, found in _detect(predictor, source, journal, run, stop, report):
                    if video is not None:
                        number = str(journal.num_frames - 1)
                        video.write(
                            frame, found.boxes, found.scores, found.classes, classes.names, number
                        )
                    if not live and stop():
                        break
                else:
                    journal.finish()
        detections = journal.detections()
        frames, dataset = frames_of_source(cfg, source, journal.num_frames)
        if postprocess is not None:
            detections = postprocess(detections, frames, run.progress)
        summary = {
            "video": source.name,
            "frames": len(frames),
            "dataset": dataset or None,
            "complete": journal.complete,
            "fps": source.fps,
            "postprocess": cfg.TEST.VIDEO.POSTPROCESS,
            "bridged_frames": [{"frame": t, "reason": r} for t, r in journal.bridged.items()],
        }
        paths = write_results(run.output, detections, frames, classes, run.formats, summary)
        if run.draw and not live and len(frames):
            with closing(source.read()) as raw:
                frames_again = (f for f, _ in islice(bridged(raw), len(frames)))
                write_annotated_video(
                    run.output / VIDEO,
                    frames_again,
                    source.fps,
                    detections,
                    classes.names,
                    len(frames),
                    threshold=run.draw_threshold,
                    progress=run.progress,
                )
        if run.draw and len(frames):
            paths.append(run.output / VIDEO)
        for note in dict.fromkeys(source.notes):
            report(note)
        if journal.bridged:
            report(f"{len(journal.bridged)} frames could not be read; {paths[1]} lists them")
        report(f"{len(frames)} frames: " + ", ".join(str(path) for path in paths))
        return journal.complete


def fingerprint(cfg: CfgNode) -> str:
    """Tells configs apart that may give other results; weights by their content."""
    cfg = cfg.clone()
    cfg.defrost()
    # These act on what the journal holds, or not on results at all.
    cfg.OUTPUT_DIR = cfg.TEST.VIDEO.POSTPROCESS = ""
    cfg.TEST.VIDEO.MEMORY_LIMIT = 0.0
    digest = hashlib.sha256(cfg.dump().encode())
    weights = Path(cfg.MODEL.WEIGHTS)
    if weights.is_file():
        with weights.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _detect(
    predictor: VideoPredictor,
    source: FrameSource,
    journal: Journal,
    run: VideoRun,
    stop: Callable[[], bool],
    report: Callable[[str], None],
) -> Iterator[tuple[np.ndarray, Detections]]:
    """Note the frames that are not done yet in the journal; yield each with what was found."""
    start = journal.num_frames
    first = predictor.replay_from(start)
    # Whatever cannot be read from there on, the frame that stands in for it comes first.
    begin = journal.last_read_before(first)
    waiting: deque[tuple[np.ndarray, str | None]] = deque()

    def results(pairs) -> Iterator[tuple[np.ndarray, Detections]]:
        for index, instances in pairs:
            frame, reason = waiting.popleft()
            found = Detections.from_instances([(index, instances)])
            journal.append(index, found, reason)
            yield frame, found
            bar.update()

    bar = tqdm(
        total=source.num_frames,
        initial=start,
        unit="frame",
        desc=source.name,
        disable=not run.progress,
    )
    with closing(source.read(begin)) as raw, bar:
        frames: Iterator[tuple[np.ndarray, str | None]]
        frames = islice(bridged(raw), first - begin, None)
        if isinstance(source, CameraSource):
            # The camera ends here, and what it has shown is brought to an end.
            frames = takewhile(lambda _: not stop(), frames)
        head = list(islice(frames, 1))
        for frame, _ in head:
            report(str(predictor.check_memory(*frame.shape[:2])))
        predictor.reset(first, start)
        for number, (frame, reason) in enumerate(chain(head, frames), first):
            if number >= start:
                waiting.append((frame, reason))
                if reason is not None:
                    bar.write(f"frame {number}: {reason}; the last good frame stands in")
            yield from results(predictor.push(frame))
        yield from results(predictor.flush())
