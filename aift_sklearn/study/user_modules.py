"""Modules of the user's own told by their source and that of all they import.

What is installed is told by its name.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import os
import sys
import sysconfig
import types
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.util import resolve_name
from pathlib import Path

__all__ = ["codes", "imported", "is_installed", "lies_in_package", "module_text"]


@functools.cache
def _places() -> tuple[str, ...]:
    """Folders of Python, of installed packages and of this package."""
    paths = {sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib")}
    paths.add(os.path.dirname(os.path.dirname(__file__)))
    return tuple(os.path.realpath(path) + os.sep for path in paths)


def lies_in_package(file: str) -> bool:
    """Whether a file is part of Python, of this package or of another installed one."""
    if file.startswith("<frozen "):
        return True
    path = os.path.realpath(file)
    return path.startswith(_places()) or not {"site-packages", "dist-packages"}.isdisjoint(
        path.split(os.sep)
    )


def is_installed(module: str | None) -> bool:
    """Whether a module is part of Python, of this package or of another installed one.

    What is typed into a notebook is not, though the program that runs it is installed.

    >>> is_installed("numpy"), is_installed("builtins"), is_installed("__main__")
    (True, True, False)
    """
    if module is None or module == "__main__":
        return False
    file = getattr(sys.modules.get(module), "__file__", None)
    return module in sys.builtin_module_names if file is None else lies_in_package(file)


def module_text(module: types.ModuleType | str) -> str:
    """Tell a module by its name where it is installed, else by its source and what that imports.

    Nothing is imported for it. Comments and documentation do not count.

    >>> module_text("numpy")
    'module numpy'
    """
    name = module if isinstance(module, str) else module.__name__
    # One that was loaded from a file may be known under no name.
    known = None if isinstance(module, str) else getattr(module, "__spec__", None)
    digests: dict[str, str] = {}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        # A package is run before what lies in it.
        waiting += [each.rpartition(".")[0]] if "." in each else []
        spec = None if each in digests else (each == name and known) or _find(each)
        if spec is None or _is_of_others(spec):
            continue
        digests[each], more = _read(spec)
        waiting += more
    return (
        f"module {name} #{_digest(repr(sorted(digests.items())))}" if digests else f"module {name}"
    )


def _digest(text: str | bytes) -> str:
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def imported(code: types.CodeType, package: str | None) -> list[str]:
    """Modules that code imports, wherever the import stands, and names that may be such.

    >>> imported(compile("from . import a", "", "exec"), "b")
    ['b', 'b.a']
    """
    found = []
    for each in codes(code):
        # What is imported is loaded right before; a long module has wide arguments in between.
        steps = [step for step in dis.get_instructions(each) if step.opname != "EXTENDED_ARG"]
        for k, step in enumerate(steps):
            if step.opname != "IMPORT_NAME":
                continue
            level, names = steps[k - 2].argval, steps[k - 1].argval or ()
            try:
                module = resolve_name("." * level + step.argval, package)
            except ImportError:  # it lies above all packages, and cannot be imported either
                continue
            found += [module, *(f"{module}.{name}" for name in names)]
    return found


def codes(code: types.CodeType) -> Iterator[types.CodeType]:
    """Code, and that of all functions and classes within."""
    yield code
    for each in code.co_consts:
        if isinstance(each, types.CodeType):
            yield from codes(each)


def _find(name: str) -> ModuleSpec | None:
    """Where a module comes from, or would: importing it might have effects."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None)
    above, path = name.rpartition(".")[0], None
    if above:
        path = getattr(_find(above), "submodule_search_locations", None)
        if path is None:
            return None
    found = (finder.find_spec(name, path) for finder in sys.meta_path)
    return next((spec for spec in found if spec is not None), None)


def _is_of_others(spec: ModuleSpec) -> bool:
    if spec.origin in ("built-in", "frozen") or spec.name in sys.stdlib_module_names:
        return True
    return spec.origin is not None and lies_in_package(spec.origin)


def _read(spec: ModuleSpec) -> tuple[str, tuple[str, ...]]:
    """Digest of a module's source without its remarks, or of its file, and what it imports."""
    try:
        source = getattr(spec.loader, "get_source", lambda _: None)(spec.name)
        if source is None:
            data = Path(spec.origin).read_bytes() if spec.has_location and spec.origin else b""
            return _digest(data), ()
    except (ImportError, OSError, SyntaxError, ValueError):  # its file is gone, or is no text
        return "", ()
    return _parse(source, spec.name, spec.parent)


# Every method of an estimator that names a module asks for it.
@functools.lru_cache(2**12)
def _parse(source: str, name: str, package: str | None) -> tuple[str, tuple[str, ...]]:
    try:
        code = compile(source, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):  # it cannot be imported either
        return _digest(source), ()
    try:
        dumped = _dumped(source)
    except RecursionError:  # Python compiles deeper nesting than it walks through
        dumped = source
    return _digest(dumped), tuple(imported(code, package))


def _dumped(source: str) -> str:
    tree = ast.parse(source)
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)
