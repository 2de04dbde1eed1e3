"""Does a test fail where the code is wrong? ``make mutants`` writes docs/mutation.md.

A process that has loaded the libraries forks for each mutant of `mutants`, imports the package with
it, and runs the tests of its room that reach the changed lines, the fastest first, until one fails.
Why a mutant may survive is noted in survivors.toml.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import gc
import importlib
import json
import os
import resource
import signal
import sys
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE, TESTS, KEPT = ROOT / "aift_sklearn", ROOT / "tests", ROOT / ".mutants"
PAGE, REASONS = ROOT / "docs/mutation.md", TESTS / "survivors.toml"

# Modules of a room, and its tests beside the doctests of those modules.
ROOMS = {
    "scores": (["scores.py"], ["test_scores.py"]),
    "selection": (["selection/*.py"], ["selection/*.py"]),
    "query": (["query/*.py"], ["query/*.py"]),
    "prediction": (["prediction/*.py"], ["prediction/test*.py"]),
    "racing": (["scanning/racing.py"], ["scanning/test_rac*.py"]),
    "parts": (["scanning/parts.py"], ["scanning/test_parts.py"]),
    "training patches": (["learning/views.py"], ["learning/test_views.py"]),
}
LIBRARIES = """numpy scipy.sparse sklearn.cluster sklearn.linear_model sklearn.neighbors
sklearn.pipeline sklearn.model_selection sklearn.ensemble sklearn.datasets torch torch.onnx skorch
modAL.models modAL.batch modAL.disagreement pandas onnx onnxruntime onnxscript skops.io coverage
pytest hypothesis.extra.numpy _hypothesis_pytestplugin xdist.plugin pytest_cov.plugin"""
OPTIONS = ["-xq", "--assert=plain", "-pno:cacheprovider", "--hypothesis-profile=mutants"]

# Seconds of CPU. Slower tests are left out: a mutant would cost as much.
SLOWEST = 6.0


class Chosen:
    """Runs only some tests, the fastest first."""

    def __init__(self, seconds):
        self.seconds = seconds

    def pytest_collection_modifyitems(self, items):
        kept = [item for item in items if item.nodeid in self.seconds]
        items[:] = sorted(kept, key=lambda item: self.seconds[item.nodeid])


class Watched:
    """Notes how long each test takes, and which lines it reaches."""

    def __init__(self, modules):
        import coverage

        self.modules = [str(path) for path in modules]
        self.coverage = coverage.Coverage(data_file=None, config_file=False, include=self.modules)
        self.seconds = {}

    def pytest_runtest_logstart(self, nodeid):
        self.coverage.switch_context(nodeid)
        self.start = time.process_time()

    def pytest_runtest_logfinish(self, nodeid):
        self.seconds[nodeid] = time.process_time() - self.start
        self.coverage.switch_context("")

    def run(self, tests):
        import pytest

        self.coverage.start()
        code = pytest.main([*OPTIONS, *tests], plugins=[self])
        self.coverage.stop()
        data = self.coverage.get_data()
        reached = {path: data.contexts_by_lineno(path) for path in self.modules}
        (KEPT / "reached.json").write_text(json.dumps([self.seconds, reached]))
        return code


def forked(action, *, cpu_seconds, seconds):
    """Start a process that does something in silence and exits with what it returns."""
    pid = os.fork()
    if pid:
        return pid
    resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_seconds) + 1, int(cpu_seconds) + 2))
    resource.setrlimit(resource.RLIMIT_DATA, (2**32, 2**32))
    signal.alarm(int(seconds))
    with (KEPT / f"output-{os.getpid()}").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    code = 99
    try:
        code = action()
    finally:
        os._exit(code)


def reached_by(room):
    """Seconds of each test of a room, and by module and line the tests that reach it."""
    modules = sorted(path for name in ROOMS[room][0] for path in PACKAGE.glob(name))
    tests = sorted(path for name in ROOMS[room][1] for path in TESTS.glob(name))
    paths = [str(path.relative_to(ROOT)) for path in [*tests, *modules]]
    pid = forked(lambda: Watched(modules).run(paths), cpu_seconds=900, seconds=3000)
    output = KEPT / f"output-{pid}"
    if os.waitpid(pid, 0)[1]:
        sys.exit(f"The tests fail without a mutant:\n{output.read_text()[-5000:]}")
    output.unlink()
    return modules, *json.loads((KEPT / "reached.json").read_text())


def reaching(mutant, seconds, lines):
    """Tests that reach the lines of a mutant; all, where they run on import."""
    first, last = mutant["lines"]
    names = {name for k in range(first, last + 1) for name in lines.get(str(k), ())}
    fast = {name: s for name, s in seconds.items() if s <= SLOWEST}
    return fast if "" in names else {name: s for name, s in fast.items() if name in names}


def start(path, source, mutant, chosen):
    """Start a process that runs the tests with a mutant."""
    import pytest
    from mutants import Mutated, mutated

    def action():
        sys.meta_path.insert(0, Mutated(path, mutated(source, mutant)))
        files = sorted({name.split("::")[0] for name in chosen})
        return pytest.main([*OPTIONS, *files], plugins=[Chosen(chosen)])

    total = sum(chosen.values())
    return forked(action, cpu_seconds=5 + 3 * total, seconds=60 + 20 * total)


def outcome_of(status):
    if os.WIFSIGNALED(status):
        late = os.WTERMSIG(status) in (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL)
        return "timed out" if late else "killed"
    # 5: no test was left; 99: no pytest was run.
    return {0: "survived", 5: "survived", 99: "broken"}.get(os.WEXITSTATUS(status), "killed")


def run_room(room, known, again, n_processes):
    """Outcome of each mutant of a room, by its module, function and change."""
    from mutants import mutants

    modules, seconds, reached = reached_by(room)
    found, running = {}, {}

    def note(name, outcome):
        found[name] = outcome
        if outcome != "killed":
            print(f"{outcome}: {name}", flush=True)

    def finish(most):
        while len(running) > most:
            pid, status = os.wait()
            note(running.pop(pid), outcome_of(status))
            (KEPT / f"output-{pid}").unlink()

    for path in modules:
        source, module = path.read_text(), str(path.relative_to(PACKAGE))
        for mutant in mutants(source):
            name = f"{module}: {mutant['function'] or 'module'}: {mutant['change']}"
            chosen = reaching(mutant, seconds, reached[str(path)])
            if not again(known.get(name)):
                found[name] = known[name]
            elif not chosen:
                note(name, "survived")
            else:
                running[start(path, source, mutant, chosen)] = name
                finish(n_processes - 1)
    finish(0)
    return found


def page(outcomes):
    """Text of docs/mutation.md."""
    from aift_sklearn import __version__

    reasons = {
        name: why for why, names in tomllib.loads(REASONS.read_text()).items() for name in names
    }
    today = datetime.date.today().isoformat()
    lines = [
        "# Mutants: are errors noticed?",
        f"Generated by `make mutants` on {today}, aift-sklearn {__version__}.",
        "",
        "One node of a module is changed (a comparison, a sign, a number, a condition, a keyword, "
        "a result, a statement that is left out), and a test of the room has to fail. Tests that "
        f"take more than {SLOWEST:g} s are left out; hypothesis draws 20 examples.",
        "",
        "| room | mutants | killed | timed out | survived | noticed |",
        "|---|---|---|---|---|---|",
    ]
    for room in ROOMS:
        every = list(outcomes.get(room, {}).values())
        counts = [every.count(outcome) for outcome in ("killed", "timed out", "survived")]
        share = (counts[0] + counts[1]) / max(1, len(every))
        lines.append(f"| {room} | {len(every)} | {' | '.join(map(str, counts))} | {share:.1%} |")
    lines += ["", "## Survivors"]
    before = None
    for of_room in outcomes.values():
        for name in (name for name, outcome in of_room.items() if outcome == "survived"):
            module, function, change = name.split(": ", 2)
            if (module, function) != before:
                lines += ["", f"`{module}`, `{function}`", ""]
            before = module, function
            lines.append(f"- `` {change} ``: {reasons.get(name, 'not looked at yet')}")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rooms", nargs="*", default=list(ROOMS), help=f"of {', '.join(ROOMS)}")
    parser.add_argument("--again", action="store_true", help="only those that nothing has killed")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(TESTS)]
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    for name in LIBRARIES.split():
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    from hypothesis import Phase, settings

    settings.register_profile(
        "mutants",
        deadline=None,
        max_examples=20,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
    )
    # What is loaded is shared with the forks, and collected in none of them.
    gc.collect()
    gc.freeze()
    KEPT.mkdir(exist_ok=True)
    file = KEPT / "outcomes.json"
    outcomes = json.loads(file.read_text()) if file.exists() else {}
    again = (lambda outcome: outcome != "killed") if options.again else (lambda _: True)
    for room in options.rooms:
        begun = time.time()
        outcomes[room] = run_room(room, outcomes.get(room, {}), again, options.processes)
        killed = sum(outcome != "survived" for outcome in outcomes[room].values())
        print(f"{room}: {killed} of {len(outcomes[room])}, {time.time() - begun:.0f} s", flush=True)
        file.write_text(json.dumps(outcomes, indent=0))
    PAGE.write_text(page({room: outcomes[room] for room in ROOMS if room in outcomes}))


if __name__ == "__main__":
    main()
