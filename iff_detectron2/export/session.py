"""Makes the programs of one detector, each compared with the model before it counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from iff_detectron2.deploy.frame_input import frame_input
from iff_detectron2.deploy.manifest import FRAME, HEADS, KEY, InputSpec, TensorSpec
from iff_detectron2.modeling.seam import VideoMixin
from iff_detectron2.structures import TemporalWindow

from .parts import FramePart, HeadsPart, KeyPart
from .programs import (
    TOLERANCE,
    NotExported,
    export_part,
    free_sides,
    in_standard_operators,
    largest_difference,
    run_aoti,
    run_onnx,
    trace_heads,
    write_aoti,
    write_onnx,
)

# Height and width of frames: programs for any size are made with the first.
_SIZES = ((480, 640), (481, 643), (350, 641))
ANY = "any"

Cases = Sequence[tuple[Sequence[Tensor], Sequence[Tensor]]]


@dataclass
class _Accepted:
    """A program that gives what the model gives.

    Attributes:
        program: the program.
        inputs, outputs: names of its tensors.
        cases: arguments, one tensor after the other, and what the model gives for them.
    """

    program: ExportedProgram
    inputs: list[str]
    outputs: list[str]
    cases: Cases


class ExportSession:
    """Makes programs into a folder, one after the other.

    Attributes:
        codes, maps, fused: as in the manifest.
        any_window: `key.pt2` takes any number of reference frames.
        left_out: as in the manifest.
    """

    def __init__(
        self,
        model: nn.Module,
        frame: FramePart,
        spec: InputSpec,
        window: TemporalWindow,
        folder: Path,
        say: Callable[[str], None],
    ) -> None:
        """
        Args:
            model: the detector in evaluation mode.
            frame: its first part.
            spec: how frames become its input; with a size, all shapes are fixed.
            window: reference frames of a key frame.
            folder: where the files go.
            say: is told each file.
        """
        self.model, self.frame, self.spec, self.window = model, frame.eval(), spec, window
        self.folder, self.say = folder, say
        self.device = frame.pixel_mean.device
        self.free = spec.frame_size is None
        # torch.export takes a size of one for a size that never changes.
        self.any_window = self.free and window.num_refs > 1
        self.codes: tuple[TensorSpec, ...] = ()
        self.maps: tuple[TensorSpec, ...] = ()
        self.fused: list[str] = []
        self.left_out: dict[str, str] = {}
        self._accepted: dict[str, _Accepted] = {}
        sizes = _SIZES if spec.frame_size is None else (spec.frame_size,)
        generator = np.random.default_rng(0)
        # Three frames of each size, so that reference frames differ.
        self._images = [
            [
                frame_input(generator.integers(0, 256, (*size, 3), np.uint8), spec).to(self.device)
                for _ in range(3)
            ]
            for size in sizes
        ]

    @torch.no_grad()
    def run(self) -> None:
        """Make what a runner needs.

        Raises:
            ValueError: one cannot be made, or differs from the model.
        """
        for images in self._images:
            self.frame.check(self.model, images[0])
        codes = [[self.frame(image) for image in images] for images in self._images]
        self._make_frame(codes)
        maps = [self._own_maps(of_size[0]) for of_size in codes]
        if isinstance(self.model, VideoMixin) and self.window.num_refs:
            part = KeyPart(self.model, self.frame.names).eval()
            self._make_key(part, codes)
            for own, of_size in zip(maps, codes, strict=True):
                own.update(zip(part.fused, part(*self._window_of(part, of_size)), strict=True))
        self._make_heads(maps)

    def _make_frame(self, codes: Sequence[Sequence[tuple[Tensor, ...]]]) -> None:
        free = {"image": free_sides(2, 3)} if self.free else None
        images = [of_size[0] for of_size in self._images]
        program = self._export(FRAME, self.frame, (images[0],), free)
        run = program.module()
        cases = [(run(image), of_size[0]) for image, of_size in zip(images, codes, strict=True)]
        self._accept(FRAME, program, cases)
        self.codes = self._specs(self.frame.names, codes[0][0])
        flat = [([image], of_size[0]) for image, of_size in zip(images, codes, strict=True)]
        self._accepted[FRAME] = _Accepted(program, ["image"], self.frame.names, flat)

    def _make_key(self, part: KeyPart, codes: Sequence[Sequence[tuple[Tensor, ...]]]) -> None:
        self.fused = part.fused
        args = [self._window_of(part, of_size) for of_size in codes]
        if self.any_window:
            args += [self._window_of(part, codes[-1], n) for n in (2, self.window.num_refs + 3)]
        free = None
        if self.free:
            refs = free_sides(0) if self.any_window else {}
            sides = free_sides(2, 3)
            count = len(part.names)
            free = ((sides,) * count, ({**refs, **sides},) * count, refs)
        program = self._export(KEY, part, args[0], free)
        run = program.module()
        expected = [part(*given) for given in args]
        self._accept(KEY, program, [(run(*a), e) for a, e in zip(args, expected, strict=True)])
        names = [*(f"key.{n}" for n in part.names), *(f"refs.{n}" for n in part.names), "offsets"]
        flat = [([*k, *r, o], e) for (k, r, o), e in zip(args, expected, strict=True)]
        self._accepted[KEY] = _Accepted(program, names, part.fused, flat)

    def _make_heads(self, maps: Sequence[dict[str, Tensor]]) -> None:
        part = HeadsPart(self.model, self.frame.names).eval()
        self.maps = self._specs(part.maps, [maps[0][name] for name in part.maps])
        args = [
            (images[0], *(own[name] for name in part.maps))
            for images, own in zip(self._images, maps, strict=True)
        ]
        try:
            expected = [part(*given) for given in args]
            traced = trace_heads(part, args[0])
            # Nothing but the size of the image counts.
            blank = [(torch.zeros_like(image), *rest) for image, *rest in args]
            difference = max(
                largest_difference(traced(*given), e)
                for given, e in zip(blank, expected, strict=True)
            )
            if difference > TOLERANCE:
                raise NotExported(f"traced heads differ from the model by {difference:.1e}")
        except (NotExported, ValueError) as error:
            self.left_out[HEADS] = str(error)
            self.say(f"no {HEADS}: {error}; a runner gives the fused maps")
            return
        torch.jit.save(traced, str(self.folder / HEADS))
        self.say(f"{HEADS}: equal to the model within {difference:.1e}")

    def write_onnx(self) -> None:
        """Write ONNX of what was exported, and compare it with the model by ONNX Runtime."""
        for name, made in self._accepted.items():
            target = name.replace(".pt2", ".onnx")
            path = self.folder / target
            try:
                program = in_standard_operators(made.program)
                write_onnx(program, path, made.inputs, made.outputs)
                difference = max(largest_difference(run_onnx(path, a), e) for a, e in made.cases)
                if difference > TOLERANCE:
                    raise NotExported(f"it differs from the model by {difference:.1e}")
            except NotExported as error:
                path.unlink(missing_ok=True)
                self._leave_out(target, error)
                continue
            self.say(f"{target}: equal to the model within {difference:.1e} by ONNX Runtime")

    def compile(self) -> None:
        """Compile packages of AOTInductor of what was exported, and compare them with the model."""
        for name, made in self._accepted.items():
            target = name.replace(".pt2", ".aoti.pt2")
            path = self.folder / target
            try:
                program = in_standard_operators(made.program)
                write_aoti(program, path)
                runs = [(run_aoti(path, program, given), e) for given, e in made.cases]
                difference = max(largest_difference(got, e) for got, e in runs)
                if difference > TOLERANCE:
                    raise NotExported(f"it differs from the model by {difference:.1e}")
            except NotExported as error:
                path.unlink(missing_ok=True)
                self._leave_out(target, error)
                continue
            self.say(f"{target}: equal to the model within {difference:.1e}")

    def _export(
        self, name: str, part: nn.Module, args: tuple[Any, ...], free: Any
    ) -> ExportedProgram:
        try:
            return export_part(part, args, free)
        except NotExported as error:
            raise ValueError(f"{name} cannot be exported{self._advice()}: {error}") from error

    def _advice(self) -> str:
        return " for any size of frames (--size fixes it)" if self.free else ""

    def _accept(
        self,
        name: str,
        program: ExportedProgram,
        cases: Cases,
    ) -> None:
        """Write a program if it gives what the model gives."""
        difference = max(largest_difference(got, expected) for got, expected in cases)
        if difference > TOLERANCE:
            raise ValueError(f"{name} differs from the model by {difference:.1e}; none is written")
        torch.export.save(program, self.folder / name)
        self.say(f"{name}: equal to the model within {difference:.1e} in {len(cases)} case(s)")

    def _leave_out(self, name: str, error: NotExported) -> None:
        self.left_out[name] = str(error)
        self.say(f"no {name}: {error}")

    def _window_of(
        self, part: KeyPart, codes: Sequence[tuple[Tensor, ...]], num_refs: int = 0
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor]:
        """Return the arguments of a part: the first frame as key frame, all as reference frames."""
        rows = [self.frame.names.index(name) for name in part.names]
        offsets = self.window.offsets if not num_refs else range(-num_refs, 0)
        refs = [codes[i % len(codes)] for i in range(len(offsets))]
        return (
            tuple(codes[0][row] for row in rows),
            tuple(torch.cat([frame[row] for frame in refs]) for row in rows),
            torch.tensor(list(offsets), device=self.device),
        )

    def _own_maps(self, codes: tuple[Tensor, ...]) -> dict[str, Tensor]:
        named = zip(self.frame.names, codes, strict=True)
        return {n.rpartition(".")[0]: x for n, x in named if n.endswith(".feature")}

    def _specs(self, names: Sequence[str], tensors: Sequence[Tensor]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(name, str(x.dtype).removeprefix("torch."), self._shape(x))
            for name, x in zip(names, tensors, strict=True)
        )

    def _shape(self, x: Tensor) -> tuple[int | str, ...]:
        return (*x.shape[:2], ANY, ANY) if self.free else tuple(x.shape)
