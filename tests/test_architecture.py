"""Who imports whom, what loads when, and what is exported."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import aift_sklearn

PACKAGE = Path(aift_sklearn.__file__).parent

# A module imports only from those before it.
ORDER = [
    "errors",
    "_writing",
    "_checks",
    "progress",
    "_candidates",
    "memory",
    "_encoding",
    "_decoding",
    "card",
    "persistence",
    "scores",
    "selection",
    "_resampling",
    "patches",
    "backbones",
    "_heldout",
    "_callbacks",
    "training",
    "_embedding",
    "features",
    "cnn",
    "onnx.graph",
    "onnx.fused",
    "onnx.runtime",
    "onnx.stream",
    "onnx.racing",
    "onnx.passes",
    "onnx.model",
    "onnx.file",
    "onnx.scorer",
    "_weights",
    "_backend",
    "_prediction",
    "classifier",
    "coldstart",
    "_modal",
    "query",
    "learner",
    "study.datasets",
    "study.tissue",
    "study.images",
    "study.files",
    "study.strategies",
    "study.tables",
    "study.frozen",
    "study.simulate",
    "study.curves",
    "study.metrics",
    "study.findings",
    "study.figures",
    "study.patterns",
    "study.gallery",
    "study.report",
    "study.demo",
    "cli",
]


def module_names():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if not name.endswith("__init__"):
            yield name, path


MODULES = list(module_names())


def imported_modules(name, path):
    """Modules of the package that a module imports, wherever the import stands."""
    parents = name.split(".")
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = parents[: len(parents) - node.level]
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            yield from [module] if module else [alias.name for alias in node.names]


def test_every_module_has_its_place():
    assert sorted(ORDER) == [name for name, _ in sorted(MODULES)]


@pytest.mark.parametrize(("name", "path"), MODULES)
def test_modules_import_from_lines_above_their_own(name, path):
    for imported in imported_modules(name, path):
        if imported in ("__version__", "study"):
            continue
        assert ORDER.index(imported) < ORDER.index(name), f"{name} imports {imported}"


def test_importing_the_package_is_light():
    code = (
        "import sys, aift_sklearn\n"
        "heavy = {'torch', 'onnxruntime', 'ray', 'modAL', 'skorch', 'pandas', 'matplotlib',"
        " 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
        "from aift_sklearn import patch_consistency\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "False"]


def test_exported_names_resolve_and_are_all_there_is():
    for name in aift_sklearn.__all__:
        assert getattr(aift_sklearn, name) is not None
    assert set(aift_sklearn.__all__) <= set(dir(aift_sklearn))
    with pytest.raises(AttributeError, match="nothing_such"):
        aift_sklearn.nothing_such  # noqa: B018
    for name, home in aift_sklearn._HOME.items():
        assert name in importlib.import_module(f"aift_sklearn.{home}").__all__


@pytest.mark.parametrize(("name", "path"), MODULES)
def test_what_a_module_exports_is_documented(name, path):
    module = importlib.import_module(f"aift_sklearn.{name}")
    public = [n for n in vars(module) if not n.startswith("_")]
    for exported in getattr(module, "__all__", []):
        assert exported in public
        value = getattr(module, exported)
        if callable(value) and not isinstance(value, type(PACKAGE)):
            assert value.__doc__, f"{name}.{exported}"


def test_missing_extras_say_how_to_get_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for module in [m for m in sys.modules if m.startswith("aift_sklearn.study")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ImportError, match=r'pip install "aift-sklearn\[study\]"'):
        importlib.import_module("aift_sklearn.study")


def test_functions_are_of_readable_size():
    for name, path in MODULES:
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                doc = ast.get_docstring(node, clean=False) or ""
                length = node.end_lineno - node.lineno + 1 - doc.count("\n")
                assert length <= 70, f"{name}.{node.name} has {length} lines of code"
