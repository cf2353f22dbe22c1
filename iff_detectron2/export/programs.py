"""Programs from the parts of a detector: torch.export, TorchScript, ONNX, AOTInductor."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from detectron2.export.torchscript_patch import patch_builtin_len
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.utils._pytree import tree_unflatten

from iff_detectron2.layers.standard_forms import STANDARD_FORMS

# Largest difference to the model, over the largest value of it, that is rounding.
TOLERANCE = 1e-4
# What the ONNX files need of whoever runs them.
OPSET = 18


class NotExported(Exception):
    """A program cannot be made; the message says why."""


def export_part(part: nn.Module, args: tuple[Any, ...], free: Any) -> ExportedProgram:
    """Export a part by torch.export.

    Args:
        part: in evaluation mode.
        args: its arguments, as an example.
        free: sides that may be any, in the structure of the arguments; None for none.

    Raises:
        NotExported: it cannot be, or not with these sides free.
    """
    try:
        with torch.no_grad(), _quiet():
            return torch.export.export(part, args, dynamic_shapes=free, strict=False)
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise NotExported(first_line(error)) from error


def free_sides(*dims: int) -> dict[int, Any]:
    """Name dimensions of a tensor that may be any."""
    return dict.fromkeys(dims, Dim.DYNAMIC)


def in_standard_operators(program: ExportedProgram) -> ExportedProgram:
    """Replace the operators of this package by those that every runtime has."""
    with _quiet():
        return program.run_decompositions(STANDARD_FORMS)


def trace_heads(part: nn.Module, args: tuple[Tensor, ...]) -> torch.jit.ScriptModule:
    """Trace a part to TorchScript, as Detectron2 does with its detectors.

    torch.export does not take the heads: which boxes survive decides shapes, and Detectron2 asks
    for the answer in Python (`find_top_rpn_proposals`, `fast_rcnn_inference`).

    Raises:
        NotExported: it cannot be.
    """
    try:
        with torch.no_grad(), _quiet(), patch_builtin_len():
            traced = torch.jit.trace(part, args, check_trace=False)
            # Without the weights of what is in front of the heads.
            return torch.jit.freeze(traced.eval(), optimize_numerics=False)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise NotExported(first_line(error)) from error


def write_onnx(program: ExportedProgram, path: Path, inputs: Sequence[str], outputs: Sequence[str]):
    """Write a program in standard operators as ONNX.

    Args:
        program: the program.
        path: file to write.
        inputs, outputs: names of its tensors there.

    Raises:
        NotExported: the packages are missing, or an operator has no form there.
    """
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise NotExported(f"{missing[0]} is not installed: pip install 'iff_detectron2[export]'")
    try:
        with _quiet():
            made = torch.onnx.export(
                program,
                (),
                dynamo=True,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                verbose=False,
            )
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as error:
        raise NotExported(first_line(error)) from error
    assert made is not None
    made.save(str(path))


def run_onnx(path: Path, args: Sequence[Tensor]) -> list[Tensor]:
    """Run a file by ONNX Runtime on the CPU.

    Raises:
        NotExported: it is not installed, or does not take the file.
    """
    if find_spec("onnxruntime") is None:
        raise NotExported("onnxruntime is not installed: pip install 'iff_detectron2[export]'")
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        given = zip(session.get_inputs(), args, strict=True)
        feed = {taken.name: x.cpu().numpy() for taken, x in given}
        return [torch.from_numpy(x) for x in session.run(None, feed)]
    except Exception as error:  # its exceptions have no base in common
        raise NotExported(first_line(error)) from error


def write_aoti(program: ExportedProgram, path: Path) -> None:
    """Compile a program in standard operators to a package of AOTInductor.

    Raises:
        NotExported: there is no compiler, or it fails.
    """
    try:
        with _quiet():
            torch._inductor.aoti_compile_and_package(program, package_path=str(path))
    except Exception as error:  # whatever compiler it is
        raise NotExported(first_line(error)) from error


def run_aoti(path: Path, program: ExportedProgram, args: Sequence[Tensor]) -> Sequence[Tensor]:
    """Run a package of AOTInductor.

    Args:
        path: of the package.
        program: what it was compiled from, which knows how its arguments are nested.
        args: one tensor after the other.

    Raises:
        NotExported: it does not load, or not take the arguments.
    """
    positional, named = tree_unflatten(list(args), program.call_spec.in_spec)
    try:
        with _quiet(), torch.no_grad():
            return torch._inductor.aoti_load_package(str(path))(*positional, **named)
    except (RuntimeError, ValueError, OSError) as error:
        raise NotExported(first_line(error)) from error


def largest_difference(got: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Return the largest difference of tensors, over the largest value of each; inf for shapes."""
    differences = [0.0]
    for x, y in zip(got, expected, strict=True):
        if x.shape != y.shape:
            return float("inf")
        if y.numel():
            scale = max(1.0, y.abs().max().item())
            differences.append((x.double() - y.double()).abs().max().item() / scale)
    return max(differences)


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line of readable length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep back warnings: what they doubt is compared with the model afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
