"""Functions and classes told by what they compute.

What is installed is told by its name. The code of a user is told by its bytecode, by the values
that it closes over, by the globals that it reads and by the modules that it imports; not by its
lines and documentation.
"""

from __future__ import annotations

import dis
import hashlib
import types
from collections.abc import Callable
from typing import Any

from .user_modules import codes, imported, is_installed, lies_in_package, module_text

__all__ = ["class_text", "function_text", "records_kept", "shorten"]

Describe = Callable[[Any], str]

# Characters of a text above which its digest stands for it.
_LONGEST = 60
# Methods that change a container: one that a function changes is a record that it keeps.
_CHANGING = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem",
     "remove", "setdefault", "update"}
)  # fmt: skip


def shorten(kind: str, text: str) -> str:
    """Let a digest stand for a long text.

    >>> shorten("list", "[1, 2]"), shorten("list", "1" * 100)
    ('[1, 2]', 'list #...')
    """
    if len(text) <= _LONGEST:
        return text
    return f"{kind} #{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def function_text(
    function: types.FunctionType, describe: Describe, *, defaults: bool = True
) -> str:
    """Tell a function by its name where it is installed, else by its code and what that reads.

    Its ``defaults`` may be left out where they are told as parameters.
    """
    code = function.__code__
    # Not by its own names, which a decorator may have copied from another function.
    name = f"{function.__globals__.get('__name__')}.{code.co_qualname}"
    parts = [name]
    if not lies_in_package(code.co_filename):
        parts = [_code_text(code, function.__doc__), _globals_text(function, describe)]
        parts += map(module_text, imported(code, function.__globals__.get("__package__")))
    elif code.co_name == "<lambda>":
        parts.append(_code_text(code))
    if function.__closure__:
        changed = _names(code, "STORE_DEREF")
        for variable, cell in zip(code.co_freevars, function.__closure__, strict=True):
            try:
                held = cell.cell_contents
            except ValueError:  # not assigned yet
                continue
            if not (variable in changed or _is_record(held, code)):
                parts.append(f"{variable}={describe(held)}")
    if defaults or hasattr(function, "__wrapped__"):
        parts.append(describe([function.__defaults__, function.__kwdefaults__]))
    stored = _names(code, "STORE_ATTR")
    attributes = {k: v for k, v in vars(function).items() if k not in {*stored, "__wrapped__"}}
    if attributes:
        parts.append(describe(attributes))
    return parts[0] if len(parts) == 1 else shorten("code", "; ".join(parts))


def _code_text(code: types.CodeType, doc: str | None = None) -> str:
    """Tell a code object by what it computes: not by its names, lines or documentation."""
    # A function without documentation holds None in its place.
    held = [None if isinstance(each, str) and each == doc else each for each in code.co_consts]
    constants = [
        _code_text(each) if isinstance(each, types.CodeType) else _constant_text(each)
        for each in held
    ]
    return repr(
        (
            code.co_code.hex(), constants, code.co_names, code.co_freevars, code.co_argcount,
            code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags & 0x2F,
            code.co_exceptiontable.hex(),
        )
    )  # fmt: skip


def _constant_text(value: Any) -> str:
    # A set of constants has no order that lasts.
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _names(code: types.CodeType, *operations: str) -> set[str]:
    """Names that a function and the functions within use with these operations."""
    return {
        str(step.argval)
        for each in codes(code)
        for step in dis.get_instructions(each)
        if step.opname in operations
    }


def _globals_text(function: types.FunctionType, describe: Describe) -> str:
    code = function.__code__
    read = _names(code, "LOAD_GLOBAL", "LOAD_NAME") - _names(code, "STORE_GLOBAL")
    held = {name: function.__globals__[name] for name in read if name in function.__globals__}
    told = {n: v for n, v in held.items() if not _is_record(v, code)}
    return describe(told | _members(list(held.values()), code))


def _members(held: list[Any], code: types.CodeType) -> dict[str, Any]:
    """Functions, classes and plain values of the user's modules as they are.

    The files, by which modules are told, may have changed since, and values have been set.
    """
    names = {name for each in codes(code) for name in each.co_names}
    changed = _names(code, "STORE_ATTR")
    members: dict[str, Any] = {}
    waiting = [each for each in held if isinstance(each, types.ModuleType)]
    while waiting:
        module = waiting.pop()
        if is_installed(module.__name__):
            continue
        assigned = changed | _assigned(module)
        for name in names & vars(module).keys():
            key, value = f"{module.__name__}.{name}", vars(module)[name]
            if isinstance(value, types.ModuleType) and key not in members:
                waiting.append(value)
            is_set = _is_plain(value) and name not in assigned
            if is_set or isinstance(value, types.FunctionType | types.ModuleType | type):
                members[key] = value
    return members


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | complex | str | bytes)


def _assigned(module: types.ModuleType) -> set[str]:
    """Names that a module's own functions assign, and those of its language."""
    held = list(vars(module).values())
    for each in vars(module).values():
        if isinstance(each, type) and each.__module__ == module.__name__:
            held += map(_inner_function, vars(each).values())
    codes_of = [each.__code__ for each in held if isinstance(each, types.FunctionType)]
    assigned = [_names(code, "STORE_GLOBAL") for code in codes_of]
    return set().union(*assigned) | {name for name in vars(module) if name.startswith("__")}


def _is_record(value: Any, code: types.CodeType) -> bool:
    """Whether a container is one that this code changes: it records calls, and sets nothing."""
    if not isinstance(value, list | dict | set) and type(value).__module__ != "collections":
        return False
    operations = {step.opname for each in codes(code) for step in dis.get_instructions(each)}
    called = {name for each in codes(code) for name in each.co_names}
    return bool(called & _CHANGING) or "STORE_SUBSCR" in operations


def records_kept(cls: type) -> Any:
    """Tell which attributes the methods of a class change after it was made."""
    methods = [
        function.__code__
        for each in cls.__mro__
        if not is_installed(each.__module__)
        for name, function in vars(each).items()
        if isinstance(function, types.FunctionType) and name != "__init__"
    ]
    stored = {name for code in methods for name in _names(code, "STORE_ATTR")}

    def kept(name: str, value: Any) -> bool:
        return name in stored or any(
            _is_record(value, code) for code in methods if name in code.co_names
        )

    return kept


def class_text(cls: type, describe: Describe) -> str:
    """Tell a class by its name where it is installed, else by its code and its bases."""
    name = f"{cls.__module__}.{cls.__qualname__}"
    if is_installed(cls.__module__):
        return name
    parts = [class_text(base, describe) for base in cls.__bases__]
    skipped = {"__module__", "__qualname__", "__doc__", "__dict__", "__weakref__",
               "__firstlineno__", "__static_attributes__", "__annotations__", "__annotate__",
               "__annotations_cache__", "__annotate_func__", "__abstractmethods__", "_abc_impl",
               "__parameters__", "__orig_bases__", "__slotnames__"}  # fmt: skip
    for key, value in sorted(vars(cls).items()):
        if key not in skipped:
            parts.append(f"{key}: {describe(_inner_function(value))}")
    return f"{cls.__qualname__} {shorten('class', '; '.join(parts))}"


def _inner_function(value: Any) -> Any:
    if isinstance(value, staticmethod | classmethod):
        return value.__func__
    if isinstance(value, property):
        return [value.fget, value.fset, value.fdel]
    return value
