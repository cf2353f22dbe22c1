"""Every kernel compiles for the GPUs it is meant for and stays within their resources.

Needs no GPU: Triton's compiler and NVIDIA's assembler and disassembler come with the package.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip("triton", reason="triton is not installed")
from iff_detectron2.kernels import aggregation, correlation  # noqa: E402
from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter replaces the compiler"
)

ARCHITECTURES = [80, 90, 100]
TYPES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
# Shared memory that one program may use; the compiler itself does not look.
SHARED_BYTES = {80: 166912, 90: 232448, 100: 232448}
CHANNELS, RADIUS, STRIDE = 512, 5, 2  # the paper's sizes


@pytest.fixture(autouse=True, scope="module")
def _fresh_cache(tmp_path_factory):
    """Return a compiled kernel of an earlier run would hide that this one does not compile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_CACHE_DIR", str(tmp_path_factory.mktemp("triton")))
        yield


def build(kernel, types, constants, architecture, num_warps=4, num_stages=3):
    """Compiles a kernel; pointers and integers as PyTorch passes them (divisible by 16)."""
    signature, attributes = {}, {}
    for position, name in enumerate(kernel.arg_names):
        if name in constants:
            signature[name] = "constexpr"
            continue
        signature[name] = types.get(name, "i32")
        if signature[name].startswith("*") or name.endswith("_batch"):
            attributes[(position,)] = [["tt.divisibility", 16]]
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    options = {"num_warps": num_warps, "num_stages": num_stages}
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


def tool(name):
    return Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name


def inspect(compiled, tmp_path):
    """Return registers, bytes of stack and the machine code of a compiled kernel."""
    path = tmp_path / "kernel.cubin"
    path.write_bytes(compiled.asm["cubin"])
    usage = subprocess.run(
        [tool("cuobjdump"), "-res-usage", path], capture_output=True, text=True, check=True
    ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found, usage
    code = subprocess.run(
        [tool("nvdisasm"), path], capture_output=True, text=True, check=True
    ).stdout
    return int(found[1]), int(found[2]), code


def check_resources(compiled, architecture, tmp_path):
    registers, stack, code = inspect(compiled, tmp_path)
    assert registers <= 255
    assert stack == 0
    assert not re.search(r"\b(LDL|STL)\b", code), "registers spill to local memory"
    assert compiled.metadata.shared <= SHARED_BYTES[architecture]
    assert re.search(r"\b(LDG|LDGSTS)\.E[.\w]*\.128", code), "no 128-bit loads"
    return code


def check_tensor_cores(compiled, architecture, code):
    expected = {80: r"\bHMMA\b", 90: r"\bHGMMA\b", 100: r"\bUTC\w*MMA\b|\bHMMA\b"}[architecture]
    assert re.search(expected, code), "no tensor-core instruction"
    if architecture == 90:
        assert "wgmma.mma_async" in compiled.asm["ptx"]


def correlation_build(kernel, table, kind, architecture, out=None, **constants):
    options = correlation.config(table, kind, CHANNELS, RADIUS)
    launch = {name: options.pop(name) for name in ("num_warps", "num_stages")}
    constants |= {"C": CHANNELS, "RADIUS": RADIUS, "STRIDE": STRIDE, **options}
    constants = {name: x for name, x in constants.items() if name in kernel.arg_names}
    pointer = f"*{TYPES.get(kind, 'fp32')}"
    types = dict.fromkeys(("x1", "x2", "x", "grad", "band"), pointer)
    types |= {"out": out or pointer, "scale": "fp32"}
    return build(kernel, types, constants, architecture, **launch)


KINDS = list(correlation.FORWARD)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("name", ["correlate_kernel", "gather_kernel"])
def test_correlation(name, kind, architecture, tmp_path):
    table = correlation.FORWARD if name == "correlate_kernel" else correlation.GRADIENTS
    compiled = correlation_build(getattr(correlation, name), table, kind, architecture)
    code = check_resources(compiled, architecture, tmp_path)
    if not isinstance(kind, str):
        check_tensor_cores(compiled, architecture, code)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_correlation_parts_of_a_sum(kind, architecture, tmp_path):
    kernel, table = correlation.gather_kernel, correlation.GRADIENTS
    compiled = correlation_build(kernel, table, kind, architecture, out="*fp32")
    check_tensor_cores(compiled, architecture, check_resources(compiled, architecture, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("mirrored", [False, True])
def test_correlation_band(kind, mirrored, architecture, tmp_path):
    kernel, table = correlation.band_kernel, correlation.GRADIENTS
    compiled = correlation_build(kernel, table, kind, architecture, MIRRORED=mirrored)
    _, stack, code = inspect(compiled, tmp_path)
    assert stack == 0
    assert re.search(r"\bSTG\.E[.\w]*\.128", code), "no 128-bit stores"


def aggregation_build(kernel, table, dtype, channels, architecture, **constants):
    options = aggregation.config(table, dtype, channels)
    num_warps = options.pop("num_warps")
    pointer = f"*{TYPES[dtype]}"
    names = ("features", "embeddings", "key_embedding", "key_features", "out")
    types = dict.fromkeys(names, pointer) | {"eps": "fp32"}
    types |= dict.fromkeys(("flow", "shares"), "*fp32")
    return build(kernel, types, constants | options, architecture, num_warps)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("channels", [128, 1024, 2048, 4096])
def test_aggregation_weights(dtype, channels, architecture, tmp_path):
    kernel, table = aggregation.weigh_kernel, aggregation.WEIGH
    compiled = aggregation_build(kernel, table, dtype, channels, architecture, E=channels)
    check_resources(compiled, architecture, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("channels", [256, 1024, 2048])
@pytest.mark.parametrize("has_key", [True, False])
def test_aggregation_sum(dtype, channels, has_key, architecture, tmp_path):
    kernel, table, constants = aggregation.fuse_kernel, aggregation.FUSE, {"HAS_KEY": has_key}
    compiled = aggregation_build(
        kernel, table, dtype, channels, architecture, C=channels, **constants
    )
    check_resources(compiled, architecture, tmp_path)


@pytest.mark.slow
def test_arguments_of_one_become_constants():
    """Triton compiles a second variant for arguments that equal 1, where names turn to numbers."""
    ones, half = {"H": 1, "W": 1}, torch.float16
    kernel, table = correlation.correlate_kernel, correlation.FORWARD
    correlation_build(kernel, table, half, 90, **ones)
    kernel, table = correlation.gather_kernel, correlation.GRADIENTS
    correlation_build(kernel, table, half, 90, N=1, **ones)
    kernel, table = correlation.band_kernel, correlation.GRADIENTS
    correlation_build(kernel, table, half, 90, MIRRORED=True, **ones)
    build(correlation.sum_kernel, {"parts": "*fp32", "out": "*fp16"}, {"size": 1, "BLOCK": 8}, 90)
    kernel, table = aggregation.weigh_kernel, aggregation.WEIGH
    aggregation_build(kernel, table, half, 8, 90, E=8, **ones)
    kernel, table = aggregation.fuse_kernel, aggregation.FUSE
    aggregation_build(kernel, table, half, 8, 90, C=8, HAS_KEY=True, T=1, **ones)
