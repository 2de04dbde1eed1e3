"""Does a test fail where the code is wrong? ``make mutants`` writes docs/mutation.md.

A process that has loaded the libraries forks for each mutant of `mutants`, imports the package with
it, and runs the tests of its room that reach the changed lines, the fastest first, until one fails.
Why a mutant may survive is noted in survivors.toml.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import gc
import importlib
import json
import os
import resource
import signal
import sys
import time
import tomllib
import types
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
LATE = (signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL)


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


def jobs_of(modules, seconds, reached):
    """Mutants by name, each with its module and the seconds of the tests that reach its lines."""
    from mutants import mutants

    fast = {name: s for name, s in seconds.items() if s <= SLOWEST}
    jobs = {}
    for path in modules:
        lines, module = reached[str(path)], str(path.relative_to(PACKAGE))
        for mutant in mutants(path.read_text()):
            first, last = mutant["lines"]
            names = {name for k in range(first, last + 1) for name in lines.get(str(k), ())}
            # What runs on import, any test may notice.
            mutant["imported"] |= "" in names
            chosen = fast if "" in names else {name: s for name, s in fast.items() if name in names}
            name = f"{module}: {mutant['function'] or 'module'}: {mutant['change']}"
            jobs[name] = (path, mutant, chosen)
    return jobs


def outcomes_of(jobs, test, n_processes):
    """Outcome of each mutant, a process for each: a signal, or what ``test`` returns."""
    found, running = {}, {}

    def finish(most):
        while len(running) > most:
            pid, status = os.wait()
            late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in LATE
            code = "late" if late else os.waitstatus_to_exitcode(status)
            # 5: no test was left; 99: pytest was not run.
            outcome = {"late": "timed out", 0: "survived", 5: "survived", 99: "broken"}
            found[running.pop(pid)] = outcome.get(code, "killed")
            (KEPT / f"output-{pid}").unlink()

    for name, job in jobs.items():
        total = sum(job[2].values())
        action = functools.partial(test, *job)
        pid = forked(action, cpu_seconds=3 + 3 * total, seconds=300 + 40 * total)
        running[pid] = name
        finish(n_processes - 1)
    finish(0)
    return found


def run_imported(path, mutant, chosen):
    """Import the package with a mutant, and run tests."""
    import pytest
    from mutants import Mutated, mutated

    sys.meta_path.insert(0, Mutated(path, mutated(path.read_text(), mutant)))
    return pytest.main([*OPTIONS, *files_of(chosen)], plugins=[Chosen(chosen)])


def files_of(tests):
    return sorted({name.split("::")[0] for name in tests})


def codes(code):
    """All functions inside the code of a module, by what identifies them."""
    for inside in code.co_consts:
        if isinstance(inside, types.CodeType):
            yield (inside.co_filename, inside.co_qualname, inside.co_firstlineno), inside
            yield from codes(inside)


class Swapped:
    """Collects tests once, and swaps the code of functions for that of mutants; saves time."""

    def __init__(self, jobs, n_processes):
        self.jobs, self.n_processes, self.live = jobs, n_processes, {}

    def run(self):
        import pytest

        files = {file for job in self.jobs.values() for file in files_of(job[2])}
        return pytest.main([*OPTIONS, "-s", *sorted(files)], plugins=[self])

    def pytest_runtestloop(self, session):
        self.items = {item.nodeid: item for item in session.items}
        for f in gc.get_objects():
            if isinstance(f, types.FunctionType):
                code = f.__code__
                key = code.co_filename, code.co_qualname, code.co_firstlineno
                self.live.setdefault(key, []).append(f)
        gc.freeze()
        every = {name: s for job in self.jobs.values() for name, s in job[2].items()}
        jobs = {"": (None, None, every), **self.jobs}
        found = outcomes_of(jobs, functools.partial(self.test, session), self.n_processes)
        if found.pop("") != "survived":
            raise RuntimeError("The tests fail without a mutant.")
        (KEPT / "swapped.json").write_text(json.dumps(found))
        return True

    def test(self, session, path, mutant, chosen):
        from mutants import mutated

        if mutant is not None:
            tree = mutated(path.read_text(), mutant)
            for key, inside in codes(compile(tree, str(path), "exec")):
                for f in self.live.get(key, ()):
                    f.__code__ = inside
        items = [self.items[name] for name in sorted(chosen, key=chosen.get)]
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                return 1
        return 0


def run_room(room, known, again, n_processes):
    """Outcome of each mutant of a room, by its module, function and change."""
    jobs = jobs_of(*reached_by(room))
    found = {name: known[name] for name in jobs if not again(known.get(name))}
    found |= {name: "survived" for name in jobs if name not in found and not jobs[name][2]}
    swapped = {
        name: job for name, job in jobs.items() if name not in found and not job[1]["imported"]
    }
    if swapped:
        pid = forked(Swapped(swapped, n_processes).run, cpu_seconds=3600, seconds=36000)
        if os.waitpid(pid, 0)[1]:
            sys.exit(f"No tests could be run: see {KEPT}/output-{pid}")
        (KEPT / f"output-{pid}").unlink()
        found |= json.loads((KEPT / "swapped.json").read_text())
    # Functions of other variables cannot be swapped either.
    rest = {name: job for name, job in jobs.items() if found.get(name, "broken") == "broken"}
    found |= outcomes_of(rest, run_imported, n_processes)
    return {name: found[name] for name in jobs}


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
        if room not in outcomes:
            lines.append(f"| {room} | not run yet | | | | |")
            continue
        every = list(outcomes[room].values())
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
    again = (
        (lambda outcome: outcome not in ("killed", "timed out"))
        if options.again
        else (lambda _: True)
    )
    for room in options.rooms:
        begun = time.time()
        outcomes[room] = run_room(room, outcomes.get(room, {}), again, options.processes)
        killed = sum(outcome != "survived" for outcome in outcomes[room].values())
        for name, outcome in outcomes[room].items():
            if outcome != "killed":
                print(f"{outcome}: {name}")
        print(f"{room}: {killed} of {len(outcomes[room])}, {time.time() - begun:.0f} s", flush=True)
        file.write_text(json.dumps(outcomes, indent=0))
    PAGE.write_text(page({room: outcomes[room] for room in ROOMS if room in outcomes}))


if __name__ == "__main__":
    main()
