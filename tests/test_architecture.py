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
    "_optional",
    "_writing",
    "_file_lock",
    "_versions",
    "_saving",
    "_checks",
    "_warnings",
    "_threads",
    "progress",
    "_page_pictures",
    "_candidates",
    "memory",
    "scores",
    "selection",
    "patches",
    "pools",
    "networks",
    "scanning",
    "onnx",
    "learning",
    "prediction",
    "classifier",
    "models",
    "query",
    "learner",
    "persistence",
    "batch_scoring",
    "cluster",
    "labelling",
    "campaign",
    "study",
    "cli",
    "__main__",
]

# Every estimator inherits `save`, and `save` names every estimator: imported once it is called.
LATE = ("_saving", "persistence.folder")

# Tables of public names and their homes, which resolve on first use.
LAZY_TABLE = "_HOME"


def module_names():
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        if name != "__init__":
            yield name.removesuffix(".__init__"), path


MODULES = list(module_names())
NAMES = {name for name, _ in MODULES}


def resolved(base, text):
    """The module that "aift_sklearn.x" or ".x" means in a package, or None."""
    if text.startswith("."):
        n_dots = len(text) - len(text.lstrip("."))
        parts = [*base[: len(base) - n_dots + 1], *filter(None, text[n_dots:].split("."))]
    else:
        first, *parts = text.split(".")
        if first != "aift_sklearn":
            return None
    # What comes last may be a class or a function.
    known = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((name for name in known if name in NAMES), None)


def modules_imported(base, tree):
    """Modules of the package that are imported, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            for alias in node.names:
                yield resolved(base, f"{module}{'' if module.endswith('.') else '.'}{alias.name}")
        elif isinstance(node, ast.Import):
            yield from (resolved(base, alias.name) for alias in node.names)


def modules_named(base, tree):
    """Modules of the package that are named as text, to be imported later."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value.startswith("aift_sklearn."):
                yield resolved(base, node.value)
        elif isinstance(node, ast.Call) and "import_module" in ast.unparse(node.func):
            texts = [one.value for one in node.args if isinstance(one, ast.Constant)]
            yield from (resolved(base, text) for text in texts)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == LAZY_TABLE:
            homes = [ast.literal_eval(value) for value in node.value.values]
            yield from (resolved(base, f".{home}") for home in homes)


def used_modules(name, path, find):
    base = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set(find(base, ast.parse(path.read_text("utf-8")))) - {None, name}
    return found - {LATE[1]} if name == LATE[0] else found


def room(module):
    return module.split(".")[0]


def test_every_room_has_its_place():
    assert sorted(ROOMS) == sorted({room(name) for name in NAMES})


@pytest.mark.parametrize(("name", "path"), MODULES)
@pytest.mark.parametrize("find", [modules_imported, modules_named])
def test_modules_import_from_rooms_before_their_own(name, path, find):
    for used in used_modules(name, path, find):
        if room(used) != room(name):
            here, there = ROOMS.index(room(name)), ROOMS.index(room(used))
            assert there < here, f"{name} uses {used}"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("from .graph import x", {"onnx.graph"}),
        ("def f():\n    from ..scores import entropy", {"scores"}),
        ("from .. import scores, __version__", {"scores"}),
        ("import aift_sklearn.learner as x", {"learner"}),
        ("from aift_sklearn.query import random_sampling", {"query"}),
        ("import numpy.random\nfrom sklearn import base", set()),
        ("HOMES = {'AIFTLearner': 'aift_sklearn.learner'}", {"learner"}),
        ("import_module('aift_sklearn.classifier.AIFTClassifier')", {"classifier"}),
        ("importlib.import_module('..learner', __package__)", {"learner"}),
        ("_HOME = {'a': 'graph', 'b': '.learner'}", {"onnx.graph", "learner"}),
        ("x = 'see aift_sklearn.learner', '.learner', 'learner'", set()),
    ],
)
def test_imports_are_found_however_they_are_written(code, expected):
    tree = ast.parse(code)
    found = {*modules_imported(["onnx"], tree), *modules_named(["onnx"], tree)}
    assert found - {None} == expected


def test_no_room_imports_in_circles():
    imports = {name: used_modules(name, path, modules_imported) for name, path in MODULES}
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


# Modules of more than 400 lines, and why they are not two. Without docstrings all have fewer.
LONG = {
    "campaign.campaign": "one public class, most of it docstrings",
    "learner": "modAL's whole interface, most of it docstrings",
    "networks.cnn": "scikit-learn's whole interface, half of it docstrings",
    "onnx.scorer": "one public class, most of it docstrings",
    "scores": "pure functions that share checks, two thirds of it docstrings",
}


def lines_of_code(lines, node):
    """Lines of a module or a function without docstrings, comments and blank lines."""
    docs = set()
    for inner in ast.walk(node):
        if isinstance(inner, (ast.FunctionDef, ast.ClassDef, ast.Module)):
            first = inner.body[0]
            if ast.get_docstring(inner) is not None:
                docs.update(range(first.lineno, first.end_lineno + 1))
    start, stop = getattr(node, "lineno", 1), getattr(node, "end_lineno", len(lines))
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#") and number not in docs
        for number, line in enumerate(lines[start - 1 : stop], start)
    )


def test_functions_and_modules_are_of_readable_size():
    long = set()
    for name, path in MODULES:
        lines = path.read_text("utf-8").splitlines()
        tree = ast.parse("\n".join(lines))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                signature = node.body[0].lineno - node.lineno
                length = lines_of_code(lines, node) - signature
                assert length <= 50, f"{name}.{node.name} has {length} lines of code"
        if len(lines) > 400:
            long.add(name)
            assert lines_of_code(lines, tree) <= 400, name
    assert long <= set(LONG), "either two modules, or a reason"
