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
    sources: dict[str, str] = {}
    waiting = [name]
    while waiting:
        each = waiting.pop()
        # A package is run before what lies in it.
        waiting += [each.rpartition(".")[0]] if "." in each else []
        spec = None if each in sources else (each == name and known) or _find(each)
        if spec is None or _is_of_others(spec):
            continue
        sources[each], code = _read(spec)
        waiting += [] if code is None else imported(code, spec.parent)
    if not sources:
        return f"module {name}"
    told = repr(sorted(sources.items())).encode()
    return f"module {name} #{hashlib.blake2b(told, digest_size=8).hexdigest()}"


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
    if spec.origin in ("built-in", "frozen"):
        return True
    return spec.origin is not None and lies_in_package(spec.origin)


def _read(spec: ModuleSpec) -> tuple[str, types.CodeType | None]:
    """Source of a module without its remarks, or its file where it has none, and its code."""
    try:
        source = getattr(spec.loader, "get_source", lambda _: None)(spec.name)
        if source is None:
            data = Path(spec.origin).read_bytes() if spec.has_location and spec.origin else b""
            return hashlib.blake2b(data, digest_size=8).hexdigest(), None
    except (ImportError, OSError, SyntaxError, ValueError):  # its file is gone, or is no text
        return "", None
    try:
        code = compile(source, spec.name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):  # it cannot be imported either
        return source, None
    try:
        return _dumped(source), code
    except RecursionError:  # Python compiles deeper nesting than it walks through
        return source, code


def _dumped(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            del node.body[0]
    return ast.dump(tree)
