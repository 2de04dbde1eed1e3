"""A strategy that calls modules of the user's own is another one once they have changed."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from aift_sklearn.study.identity import describe, describe_estimator, describe_strategy

PICK = 'def pick(n):\n    """Documented."""\n    return range(n)\n'
OTHER = PICK.replace("range(n)", "range(1, n + 1)")
ASK = "def ask(learner, X, n_instances=1):\n    return {}\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder that modules are imported from, as they stand there."""
    # Files that change within a second would be taken for those that were compiled before.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder, sources):
    for name, source in sources.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)


def told(folder, source, sources=()):
    """The strategy ``ask`` of a notebook, as a process tells it that finds these modules."""
    write(folder, dict(sources))
    for name, module in list(sys.modules.items()):
        if str(folder) in str(getattr(module, "__file__", "")):
            del sys.modules[name]
    importlib.invalidate_caches()
    scope = {"np": np, "__name__": "__main__"}
    exec(compile(source, "<cell>", "exec"), scope)
    return describe_strategy(scope["ask"])


ROUTES = {
    "a function of a module": (
        {"mine.py": PICK},
        "import mine\n" + ASK.format("mine.pick(n_instances)"),
    ),
    "a function that was imported": (
        {"mine.py": PICK},
        "from mine import pick\n" + ASK.format("pick(n_instances)"),
    ),
    "a module that a module imports": (
        {"mine.py": PICK, "outer.py": "import mine\ndef go(n):\n    return mine.pick(n)\n"},
        "import outer\n" + ASK.format("outer.go(n_instances)"),
    ),
    "a module that an imported function imports": (
        {"mine.py": PICK, "outer.py": "def go(n):\n    import mine\n    return mine.pick(n)\n"},
        "from outer import go\n" + ASK.format("go(n_instances)"),
    ),
    "a module that a package imports from beside it": (
        {"pack/__init__.py": "from . import mine\n", "pack/mine.py": PICK},
        "import pack\n" + ASK.format("pack.mine.pick(n_instances)"),
    ),
    "a module of a package that does not import it": (
        {"pack/__init__.py": "", "pack/mine.py": PICK},
        "import pack.mine\n" + ASK.format("pack.mine.pick(n_instances)"),
    ),
    "an import far down in a long module": (
        {
            "mine.py": PICK,
            "outer.py": "\n".join(f"x{i} = {i + 0.5}" for i in range(300))
            + "\ndef go(n):\n    return pick(n)\nfrom mine import pick\n",
        },
        "import outer\n" + ASK.format("getattr(outer, 'g' + 'o')(n_instances)"),
    ),
    "an import from beside far down in a long module": (
        {
            "pack/__init__.py": "",
            "pack/mine.py": PICK,
            "pack/outer.py": "\n".join(f"x{i} = {i + 0.5}" for i in range(300))
            + "\nfrom . import mine\n",
        },
        "import pack.outer\n" + ASK.format("getattr(pack.outer, 'mine').pick(n_instances)"),
    ),
    "an import inside the strategy": (
        {"mine.py": PICK},
        ASK.replace(":\n", ":\n    import mine\n", 1).format("mine.pick(n_instances)"),
    ),
    "an import from a package inside the strategy": (
        {"pack/__init__.py": "", "pack/mine.py": PICK},
        ASK.replace(":\n", ":\n    from pack import mine\n", 1).format("mine.pick(n_instances)"),
    ),
    "a name that is put together": (
        {"mine.py": PICK},
        "import mine\n" + ASK.format("getattr(mine, 'pi' + 'ck')(n_instances)"),
    ),
    "a module among the defaults": (
        {"mine.py": PICK},
        "import mine\n" + ASK.replace("=1)", "=1, m=mine)").format("m.pick(n_instances)"),
    ),
    "a class of a module": (
        {"mine.py": "class Mine:\n    def pick(self, n):\n        return range(n)\n"},
        "import mine\n" + ASK.format("mine.Mine().pick(n_instances)"),
    ),
}


@pytest.mark.parametrize("route", ROUTES)
def test_a_strategy_is_another_one_once_a_module_that_it_reaches_has_changed(folder, route):
    sources, ask = ROUTES[route]
    name = next(name for name in sources if "return range" in sources[name])
    before = told(folder, ask, sources)
    assert told(folder, ask, sources) == before
    changed = sources[name].replace("range(n)", "range(1, n + 1)")
    assert told(folder, ask, {name: changed}) != before


@pytest.mark.parametrize("same", ["# a remark\n\n" + PICK, PICK.replace("Documented", "Twice")])
def test_a_module_is_its_code_not_its_lines(folder, same):
    ask = "import mine\n" + ASK.format("mine.pick(n_instances)")
    assert told(folder, ask, {"mine.py": PICK}) == told(folder, ask, {"mine.py": same})


def test_a_constant_of_a_module_counts(folder):
    ask = "import mine\n" + ASK.format("np.arange(n_instances) * mine.STEP")
    assert told(folder, ask, {"mine.py": "STEP = 1\n"}) != told(
        folder, ask, {"mine.py": "STEP = 2\n"}
    )


@pytest.mark.parametrize("value", [2, 2.5, "two", b"2", None, True, (1, (2, "x"))])
def test_a_value_that_was_set_in_a_module_counts(folder, value):
    ask = "import mine\n" + ASK.format("mine.pick(mine.STEP)")
    before = told(folder, ask, {"mine.py": "STEP = 3\n" + PICK})
    scope = {"__name__": "__main__"}
    exec(compile(ask, "<cell>", "exec"), scope)
    assert describe_strategy(scope["ask"]) == before
    scope["mine"].STEP = value
    assert describe_strategy(scope["ask"]) != before


@pytest.mark.parametrize(
    "count",
    [
        ({"mine.py": "CALLS = 0\n" + PICK}, "mine.CALLS += 1\n    return mine.pick(n_instances)"),
        (
            {
                "mine.py": "CALLS = 0\nclass Counter:\n    def step(self):\n        global CALLS\n"
                "        CALLS += 1\n"
            },
            "return mine.Counter().step(), mine.CALLS",
        ),
        (
            {"mine.py": "CALLS = 0\ndef pick(n):\n    global CALLS\n    CALLS += 1\n"},
            "return mine.pick(n_instances), mine.CALLS",
        ),
    ],
)
def test_a_module_that_counts_calls_stays_the_same(folder, count):
    sources, body = count
    ask = f"import mine\ndef ask(learner, X, n_instances=1):\n    {body}\n"
    before = told(folder, ask, sources)
    scope = {"__name__": "__main__"}
    exec(compile(ask, "<cell>", "exec"), scope)
    scope["ask"](None, None)
    assert scope["mine"].CALLS == 1
    assert describe_strategy(scope["ask"]) == before


def test_modules_that_nothing_reaches_do_not_count(folder):
    ask = "import mine\n" + ASK.format("mine.pick(n_instances)")
    before = told(folder, ask, {"mine.py": PICK, "apart.py": PICK})
    assert told(folder, ask, {"apart.py": OTHER}) == before


def test_what_is_installed_is_told_by_its_name():
    assert describe(np) == "module numpy"
    assert describe(importlib) == "module importlib"


def test_modules_that_import_each_other_end(folder):
    sources = {"mine.py": "import outer\n" + PICK, "outer.py": "import mine\n"}
    ask = "import outer\n" + ASK.format("outer.mine.pick(n_instances)")
    before = told(folder, ask, sources)
    assert told(folder, ask, {"mine.py": "import outer\n" + OTHER}) != before


def test_what_runs_counts_where_its_file_has_changed_since(folder):
    ask = "import mine\n" + ASK.format("mine.pick(n_instances)")
    told(folder, ask, {"mine.py": PICK})
    import mine

    write(folder, {"mine.py": OTHER})
    scope = {"mine": mine, "__name__": "__main__"}
    exec(compile(ask, "<cell>", "exec"), scope)
    assert describe_strategy(scope["ask"]) != told(folder, ask)


@pytest.mark.parametrize("source", ["import missing_one\n", "from .. import above\n", "x = (\n"])
def test_a_module_whose_imports_are_not_found_is_told_by_its_source(folder, source):
    ask = ASK.replace(":\n", ":\n    import mine\n", 1).format("mine.pick(n_instances)")
    before = told(folder, ask, {"mine.py": source})
    assert told(folder, ask, {"mine.py": "y = 1\n" + source}) != before


def test_an_estimator_that_calls_a_module_is_told_by_it(folder):
    def estimator():
        write(folder, {"mine.py": source})
        sys.modules.pop("mine", None)
        importlib.invalidate_caches()
        mine = importlib.import_module("mine")

        class Mine(LogisticRegression):
            def predict_proba(self, X):
                return super().predict_proba(X)[mine.pick(len(X))]

        return describe_estimator(Mine())

    source = PICK
    before = estimator()
    assert estimator() == before
    source = OTHER
    assert estimator() != before
