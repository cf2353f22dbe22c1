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
    """A compiled kernel of an earlier run would hide that this one does not compile."""
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
    """Returns registers, bytes of stack and the machine code of a compiled kernel."""
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


def correlation_build(kernel, table, dtype, architecture, precision, **constants):
    options = correlation.config(table, dtype, CHANNELS, RADIUS)
    launch = {name: options.pop(name) for name in ("num_warps", "num_stages")}
    if dtype == torch.float32:
        options["PRECISION"] = precision
    constants |= {"C": CHANNELS, "RADIUS": RADIUS, "STRIDE": STRIDE, **options}
    pointer = f"*{TYPES[dtype]}"
    types = dict.fromkeys(("x1", "x2", "x", "grad", "out"), pointer) | {"scale": "fp32"}
    return build(kernel, types, constants, architecture, **launch)


FLOAT32_CASES = [(torch.float32, "tf32"), (torch.float32, "tf32x3")]
CASES = [(torch.float16, ""), (torch.bfloat16, ""), *FLOAT32_CASES]


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("dtype", "precision"), CASES, ids=str)
def test_correlation_forward(dtype, precision, architecture, tmp_path):
    # The output lies channels-last: unit stride between displacements.
    compiled = correlation_build(
        correlation.correlate_kernel,
        correlation._FORWARD,
        dtype,
        architecture,
        precision,
        out_channel=1,
    )
    code = check_resources(compiled, architecture, tmp_path)
    if dtype != torch.float32:
        check_tensor_cores(compiled, architecture, code)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("dtype", "precision"), CASES[1:], ids=str)
@pytest.mark.parametrize(("mirrored", "reduce"), [(False, True), (True, False)])
def test_correlation_gradients(dtype, precision, mirrored, reduce, architecture, tmp_path):
    compiled = correlation_build(
        correlation.gather_kernel,
        correlation._BACKWARD,
        dtype,
        architecture,
        precision,
        grad_channel=1,
        MIRRORED=mirrored,
        REDUCE=reduce,
    )
    if dtype == torch.float32:
        # TF32 wants the second operand transposed and loses the wide loads; nothing spills.
        registers, stack, _ = inspect(compiled, tmp_path)
        assert registers <= 255
        assert stack == 0
        assert compiled.metadata.shared <= SHARED_BYTES[architecture]
    else:
        check_tensor_cores(
            compiled, architecture, check_resources(compiled, architecture, tmp_path)
        )


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    ("dtype", "has_key", "channels", "embedded"),
    [
        (torch.float16, True, 1024, 2048),
        (torch.bfloat16, True, 1024, 2048),
        (torch.float32, True, 1024, 2048),
        (torch.bfloat16, False, 256, 128),
        (torch.float32, False, aggregation.MAX_CHANNELS, 4096),
    ],
    ids=str,
)
def test_aggregation(dtype, has_key, channels, embedded, architecture, tmp_path):
    options = aggregation.config(channels, embedded)
    num_warps = options.pop("num_warps")
    constants = {"C": channels, "E": embedded, "HAS_KEY": has_key, **options}
    pointer = f"*{TYPES[dtype]}"
    names = ("features", "embeddings", "key_embedding", "key_features", "out")
    types = dict.fromkeys(names, pointer) | {"flow": "*fp32", "eps": "fp32"}
    compiled = build(aggregation.aggregate_kernel, types, constants, architecture, num_warps)
    check_resources(compiled, architecture, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "ones"),
    [
        ("correlate", {"H": 1, "W": 1, "out_row": 1, "out_col": 1, "out_channel": 1}),
        ("gather", {"H": 1, "W": 1, "N": 1, "grad_row": 1, "grad_col": 1, "grad_channel": 1}),
        ("aggregate", {"T": 1, "H": 1, "W": 1}),
    ],
)
def test_arguments_of_one_become_constants(kernel, ones):
    """Triton compiles a second variant for arguments that equal 1, where names turn to numbers."""
    if kernel == "aggregate":
        constants = {"C": 8, "E": 8, "HAS_KEY": True, **aggregation.config(8, 8), **ones}
        constants.pop("num_warps")
        names = ("features", "embeddings", "key_embedding", "key_features", "out", "flow")
        types = dict.fromkeys(names, "*fp32") | {"eps": "fp32"}
        build(aggregation.aggregate_kernel, types, constants, 90)
    elif kernel == "correlate":
        table = correlation._FORWARD
        correlation_build(correlation.correlate_kernel, table, torch.float16, 90, "", **ones)
    else:
        ones = {**ones, "MIRRORED": True, "REDUCE": True}
        table = correlation._BACKWARD
        correlation_build(correlation.gather_kernel, table, torch.float16, 90, "", **ones)
