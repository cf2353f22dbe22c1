"""A detector over a whole video: frames in; predictions, tracks and an annotated video out."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, field
from itertools import chain, islice, takewhile
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from tqdm import tqdm

from iff_detectron2.engine.postprocess import build_postprocess
from iff_detectron2.engine.predictor import VideoPredictor
from iff_detectron2.engine.preflight import check_classes
from iff_detectron2.engine.ready_frame import ReadyFrame
from iff_detectron2.structures import Detections
from iff_detectron2.utils.folder_lock import owned_folder
from iff_detectron2.video.read_ahead import read_ahead
from iff_detectron2.video.sources import CameraSource, FrameSource, bridged

from .frame_output import FrameOutput, Region
from .journal import Journal
from .known_data import frames_of_source, known_classes
from .output import AnnotatedVideo, DrawingStyle, write_results
from .stopwatch import Stopwatch

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class VideoRun:
    """What to write of a video, and where.

    Attributes:
        output: folder for the results.
        formats: of `output.FORMATS`, beside the JSON.
        drawing: how results are drawn into a video; None for no video.
        progress: show progress bars.
        restart: begin anew in a folder that holds a run.
    """

    output: Path
    formats: Sequence[str] = ()
    drawing: DrawingStyle | None = field(default_factory=DrawingStyle)
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

    A frame is drawn as soon as it is done, while its pixels are at hand. What post-processing
    rescores can be drawn only when the video is over, so that its frames are decoded again: kept,
    an hour of video would fill 600 GB. So are those of a run that goes on from its journal.

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
        OSError: if the annotated video cannot be written, before the first frame is looked at.
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
    watch = Stopwatch()
    path = run.output / JOURNAL
    if run.restart:
        path.unlink(missing_ok=True)
    for stale in run.output.glob(".annotated.*"):
        stale.unlink()  # of a run that was killed; nobody else writes here
    if live and path.exists():
        raise ValueError(
            f"{run.output} holds a run already, and a camera cannot go on where it ended; choose "
            "another output folder, or begin anew in this one"
        )
    check_classes(predictor.model, (), (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)[:1])
    classes = known_classes(cfg)
    with Journal(path, {"source": source.identity(), "config": fingerprint(cfg)}) as journal:
        done_before = journal.num_frames
        if done_before:
            report(f"{done_before} frames are done already")
        # A camera shows each frame once.
        at_once = live or (postprocess is None and not journal.num_frames)
        drawing = None
        if run.drawing is not None:
            drawing = AnnotatedVideo(
                run.output / run.drawing.file_name, source.fps, run.drawing, classes.names
            )
            drawing.try_out()
        if not journal.complete:
            with drawing if at_once and drawing else nullcontext() as video:
                for frame, found in _detect(predictor, source, journal, run, stop, report, watch):
                    if video is not None:
                        with watch.on("drawing"):
                            video.write(frame, found, str(journal.num_frames - 1))
                    if not live and stop():
                        break
                else:
                    journal.finish()
        detections = journal.detections()
        frames, dataset = frames_of_source(cfg, source, journal.num_frames)
        if postprocess is not None:
            with watch.on("linking"):
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
        paths = write_results(
            run.output, detections, frames, classes, run.formats, summary, journal.regions
        )
        if drawing is not None and len(frames):
            if not at_once:
                by_frame = _by_frame(detections, journal.regions)
                with watch.on("drawing"):
                    _draw_again(source, by_frame, drawing, run.progress)
            paths.append(drawing.path)
        for note in dict.fromkeys(source.notes):
            report(note)
        if journal.bridged:
            report(f"{len(journal.bridged)} frames could not be read; {paths[1]} lists them")
        report(f"{len(frames)} frames: " + ", ".join(str(path) for path in paths))
        if journal.num_frames > done_before:
            report(watch.summary(journal.num_frames - done_before))
        return journal.complete


def _by_frame(detections: Detections, regions: Sequence[list[Region]]) -> list[FrameOutput]:
    starts = detections.row_starts(len(regions))
    return [
        FrameOutput(detections[starts[t] : starts[t + 1]], regions[t]) for t in range(len(regions))
    ]


def _draw_again(
    source: FrameSource, found: Sequence[FrameOutput], drawing: AnnotatedVideo, progress: bool
) -> None:
    """Draw the first frames of a video, decoded anew."""
    with closing(source.read()) as raw, drawing as video:
        frames = islice(bridged(raw), len(found))
        for index, (frame, _) in enumerate(
            tqdm(frames, "drawing", len(found), disable=not progress)
        ):
            video.write(frame, found[index], str(index))


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
    watch: Stopwatch,
) -> Iterator[tuple[np.ndarray, FrameOutput]]:
    """Note the frames that are not done yet in the journal; yield each with what was found."""
    start = journal.num_frames
    first = predictor.replay_from(start)
    # Whatever cannot be read from there on, the frame that stands in for it comes first.
    begin = journal.last_read_before(first)
    waiting: deque[tuple[np.ndarray, str | None]] = deque()

    def results(pairs) -> Iterator[tuple[np.ndarray, FrameOutput]]:
        for index, output in pairs:
            frame, reason = waiting.popleft()
            found = FrameOutput.from_output(index, output)
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
    # A camera is not read ahead: it ends where the user says, and what it has shown is brought to
    # its end.
    live = isinstance(source, CameraSource)
    with ExitStack() as stack:
        raw = stack.enter_context(closing(source.read(begin)))
        decoded = islice(bridged(raw), first - begin, None)
        ready: Iterator[tuple[ReadyFrame, str | None]]
        ready = (
            (predictor.prepare(frame, f"frame {number} of {source.name}"), reason)
            for number, (frame, reason) in enumerate(decoded, first)
        )
        if not live:
            ready = stack.enter_context(closing(read_ahead(ready)))
        stack.enter_context(bar)
        frames = watch.waiting("waiting for frames", ready)
        if live:
            frames = takewhile(lambda _: not stop(), frames)
        head = list(islice(frames, 1))
        for frame, _ in head:
            report(_memory_plan(predictor, frame.pixels, f"frame {first} of {source.name}"))
        predictor.reset(first, start, late=not live)
        for number, (frame, reason) in enumerate(chain(head, frames), first):
            if number >= start:
                waiting.append((frame.pixels, reason))
                if reason is not None:
                    bar.write(f"frame {number}: {reason}; the last good frame stands in")
            with watch.on("detecting"):
                outputs = predictor.push_outputs(frame)
            yield from results(outputs)
        with watch.on("detecting"):
            outputs = predictor.flush_outputs()
        yield from results(outputs)


def _memory_plan(predictor: VideoPredictor, frame: np.ndarray, name: str) -> str:
    try:
        return str(predictor.check_memory(*frame.shape[:2]))
    except ValueError as error:
        height, width = frame.shape[:2]
        raise ValueError(f"{name} ({width}x{height} pixels): {error}") from error
