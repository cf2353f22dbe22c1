"""The rules of the house that a machine can hold: who imports whom, and what importing does."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "iff_detectron2"
BASE = {"structures", "utils"}
SHOWN = {*BASE, "visualization"}
READ = {*SHOWN, "video", "predictions"}
SCORED = {*READ, "data", "postprocessing"}
MAY_IMPORT = {
    "structures": {"utils"},
    "utils": set(),
    "kernels": set(),
    "layers": {"kernels"},
    "visualization": set(BASE),
    "video": set(BASE),
    "predictions": set(BASE),
    "modeling": {"layers", *BASE},
    "postprocessing": {"predictions", *BASE},
    "data": set(READ),
    "evaluation": {"data", *READ},
    "doctor": {"data", *READ},
    "engine": {"kernels", "layers", "modeling", "evaluation", "doctor", *SCORED},
}
MAY_IMPORT["deploy"] = {"layers", *BASE}
MAY_IMPORT["inference"] = {"engine", *MAY_IMPORT["engine"]}
MAY_IMPORT["export"] = {"deploy", "inference", *MAY_IMPORT["inference"]}
# cli holds the old name of iff_detectron2_cli, which may import every room.
MAY_IMPORT["cli"] = set()


def imported_modules(path: Path, package: str):
    """Absolute names of all modules that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package.split(".")[: len(package.split(".")) - node.level + 1]
            module = ".".join([*parent, node.module or ""] if node.level else [node.module])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def files():
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path, ".".join(["iff_detectron2", *path.relative_to(PACKAGE).parent.parts])
    for path in sorted((ROOT / "kernels").glob("*.py")):
        yield path, "iff_detectron2.kernels"
    for path in sorted((ROOT / "iff_detectron2_cli").glob("*.py")):
        yield path, "iff_detectron2_cli"


def test_imports_go_one_way():
    wrong = []
    for path, package in files():
        room = package.partition(".")[2].partition(".")[0]
        for module in imported_modules(path, package):
            root, _, rest = module.partition(".")
            other = rest.partition(".")[0]
            if room and root == "iff_detectron2" and other in MAY_IMPORT.keys() - {room}:
                wrong += [f"{path.relative_to(ROOT)} imports {module}"] * (
                    other not in MAY_IMPORT[room]
                )
    assert not wrong


def test_only_kernels_import_triton():
    wrong = [
        str(path.relative_to(ROOT))
        for path, package in files()
        if package != "iff_detectron2.kernels"
        and any(module.split(".")[0] == "triton" for module in imported_modules(path, package))
    ]
    assert not wrong


def test_some_rooms_do_without_detectron2():
    wrong = [
        str(path.relative_to(ROOT))
        for path, package in files()
        if package.split(".")[-1] in ("deploy", "layers", "postprocessing")
        and any(m.split(".")[0] == "detectron2" for m in imported_modules(path, package))
    ]
    assert not wrong


def run_python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False
    )


def test_importing_registers_and_does_nothing_else():
    code = """
import builtins, torch
def no_cuda(*a, **k): raise AssertionError("importing asks for a GPU")
torch.cuda.is_available = torch.cuda._lazy_init = no_cuda
import detectron2.data, detectron2.modeling, detectron2.evaluation
import iff_detectron2
from detectron2.modeling import META_ARCH_REGISTRY, BACKBONE_REGISTRY, ROI_HEADS_REGISTRY
META_ARCH_REGISTRY.get("VideoGeneralizedRCNN")
BACKBONE_REGISTRY.get("build_dilated_resnet_backbone")
ROI_HEADS_REGISTRY.get("RFCNROIHeads")
from detectron2.data import DatasetCatalog
assert {"imagenet_vid_train", "imagenet_vid_val", "imagenet_det_30cls_train",
        "moving_shapes_train", "moving_shapes_val"} <= set(DatasetCatalog.list())
import sys
assert not [m for m in sys.modules if m.startswith("iff_detectron2.kernels")]
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr


def test_commands_import_the_package_when_they_run():
    """At the top of a file stand the standard library and neighbours, so that help is quick."""
    wrong = []
    for path in (ROOT / "iff_detectron2_cli").glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names.append(node.module)
            foreign = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
            wrong += [f"{path.name} imports {name}" for name in sorted(foreign)]
    assert not wrong


@pytest.mark.parametrize(
    "how",
    [
        "from iff_detectron2 import add_iff_config",
        "import iff_detectron2.modeling",
        "from iff_detectron2.data import VIDDatasetMapper",
        "from iff_detectron2.engine import VideoPredictor",
        "from iff_detectron2.evaluation import VIDEvaluator",
    ],
)
def test_missing_detectron2_says_how_to_install_it(how):
    code = """
import importlib.util, sys
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "detectron2" else find_spec(name, *a)
sys.modules["detectron2"] = None
import iff_detectron2
from iff_detectron2.deploy import VideoRunner  # does without
try:
    iff_detectron2.no_such_name
except AttributeError:
    print("an attribute")
IMPORT
"""
    result = run_python(code.replace("IMPORT", how))
    assert result.returncode != 0
    assert result.stdout == "an attribute\n"
    assert "ImportError: iff_detectron2 needs detectron2" in result.stderr
    assert "make setup" in result.stderr


def ends_of_text(node: ast.AST):
    """Yield the last piece of each text that an expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr) and node.values:
        yield from ends_of_text(node.values[-1])
    elif isinstance(node, ast.BinOp):
        yield from ends_of_text(node.right)
    elif isinstance(node, ast.IfExp):
        yield from ends_of_text(node.body)
        yield from ends_of_text(node.orelse)


def test_errors_have_no_final_full_stop():
    """Each may become part of a longer sentence, as "iff-detectron2 predict: ... (--restart)"."""
    raised = [
        (path, node.lineno, end)
        for path, _ in files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
        for argument in node.exc.args
        for end in ends_of_text(argument)
    ]
    assert len(raised) > 150
    wrong = [f"{p.relative_to(ROOT)}:{n}" for p, n, end in raised if end.rstrip(" )").endswith(".")]
    assert not wrong


def test_train_net_stays_a_script():
    assert len((ROOT / "train_net.py").read_text(encoding="utf-8").splitlines()) < 90


@pytest.mark.parametrize("config", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: p.name)
def test_configs_say_what_they_are(config):
    head = config.read_text(encoding="utf-8").splitlines()[0]
    assert head.startswith("# ")
    if not config.name.startswith("Base"):
        assert f"--config-file {config.relative_to(ROOT)}" in head


def parameters_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[str]:
    """Names of the parameters, without that of the object or class itself."""
    given = function.args
    listed = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [a.arg for a in listed if a is not None and a.arg not in ("self", "cls")]


def public_functions(body: list[ast.stmt], prefix: str = ""):
    """Yield names and definitions of public functions and methods, not of nested ones."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name[0] != "_":
            yield prefix + node.name, node


def test_functions_of_three_parameters_say_what_these_are():
    """By a section Args, or by the name of a function that has it.

    Methods without a docstring have that of the method which they override; `from_config` is
    Detectron2's, and a kernel of Triton is not called by people.
    """
    asked, wrong = 0, []
    for path, _ in files():
        for name, node in public_functions(ast.parse(path.read_text(encoding="utf-8")).body):
            doc = ast.get_docstring(node)
            if doc is None or len(parameters_of(node)) < 3 or name.endswith("from_config"):
                continue
            if any("triton" in ast.unparse(decorator) for decorator in node.decorator_list):
                continue
            asked += 1
            if not re.search(r"^Args:$|\b(?:[Aa]rguments|[Ss]ee)\b[^.;]*[`:]", doc, re.M):
                wrong.append(f"{path.relative_to(ROOT)}: {name}")
    assert asked > 150
    assert not wrong
