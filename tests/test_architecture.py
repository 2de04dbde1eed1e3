"""Who imports whom, what loads when, and what is exported."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import aift_sklearn

PACKAGE = Path(aift_sklearn.__file__).parent

# Rooms, and modules that stand alone. A module imports only from rooms before its own, and from its
# own room, where nothing runs in circles.
ROOMS = [
    "errors",
    "_writing",
    "_checks",
    "_warnings",
    "progress",
    "_candidates",
    "memory",
    "persistence",
    "scores",
    "selection",
    "patches",
    "networks",
    "scanning",
    "onnx",
    "learning",
    "prediction",
    "classifier",
    "query",
    "learner",
    "study",
    "cli",
    "__main__",
]


def module_names():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if name != "__init__":
            yield name.removesuffix(".__init__"), path


MODULES = list(module_names())
NAMES = {name for name, _ in MODULES}


def imported_modules(name, path):
    """Modules of the package that a module imports, wherever the import stands."""
    parents = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = parents[: len(parents) - node.level + 1]
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                inner = f"{module}.{alias.name}".lstrip(".")
                if inner in NAMES or module:
                    yield inner if inner in NAMES else module


def room(module):
    return module.split(".")[0]


def test_every_room_has_its_place():
    assert sorted(ROOMS) == sorted({room(name) for name in NAMES})


@pytest.mark.parametrize(("name", "path"), MODULES)
def test_modules_import_from_rooms_before_their_own(name, path):
    for imported in imported_modules(name, path):
        if room(imported) != room(name):
            here, there = ROOMS.index(room(name)), ROOMS.index(room(imported))
            assert there < here, f"{name} imports {imported}"


def test_no_room_imports_in_circles():
    imports = {name: set(imported_modules(name, path)) - {name} for name, path in MODULES}
    # A package itself only gathers the names of its modules.
    imports = {name: known for name, known in imports.items() if "." in name or name not in ROOMS}
    done = set()
    while len(done) < len(imports):
        free = {n for n in imports.keys() - done if not (imports[n] & imports.keys()) - done}
        assert free, f"in a circle: {sorted(imports.keys() - done)}"
        done |= free


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
        assert exported in public or exported in dir(module)
        value = getattr(module, exported)
        if callable(value) and not isinstance(value, type(PACKAGE)):
            assert value.__doc__, f"{name}.{exported}"


def test_missing_extras_say_how_to_get_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    for module in [m for m in sys.modules if m.startswith("aift_sklearn.study")]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ImportError, match=r'pip install "\.\[study\]"'):
        importlib.import_module("aift_sklearn.study")


def test_functions_are_of_readable_size():
    for name, path in MODULES:
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                doc = ast.get_docstring(node, clean=False) or ""
                length = node.end_lineno - node.lineno + 1 - doc.count("\n")
                assert length <= 70, f"{name}.{node.name} has {length} lines of code"
