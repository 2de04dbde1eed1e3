"""Messages of the library in the words of the command line: ``size=64`` is ``--size 64``."""

from __future__ import annotations

import re

__all__ = ["speak_options"]

_OPTIONS = {
    "data": "--data",
    "drop_look_alikes": "--drop-look-alikes",
    "groups": "--groups",
    "max_pool": "--max-pool",
    "max_test": "--max-test",
    "metric": "--metric",
    "model": "--model",
    "n_instances": "--batch",
    "n_patches": "--patches",
    "n_rounds": "--rounds",
    "random_state": "--split-seed",
    "restart": "--restart",
    "seeds": "--seeds",
    "shape": "--size",
    "size": "--size",
    "strategies": "--strategy",
    "test_fraction": "--test-fraction",
    "trusted": "--trusted",
    "views": "--views",
}
_VALUE = r"'[^']*'|\"[^\"]*\"|\[[^\]]*\]|\([^)]*\)|[\w-]+(?:\.\d+)?|\.\.\."
_ASSIGNED = re.compile(rf"\b({'|'.join(_OPTIONS)})=({_VALUE})")
# A call in which nothing else is passed: "load(folder, trusted=['a.B'])".
_CALL = re.compile(rf"\bload\(folder, ({'|'.join(_OPTIONS)})=(\[[^\]]*\])\)")
# A name without an underscore is a word of the language too.
_NAMED = re.compile(
    rf"(?<![\w./-])(?:(?<=option )({'|'.join(_OPTIONS)})"
    rf"|({'|'.join(name for name in _OPTIONS if '_' in name)}))\b"
)


def speak_options(message: str) -> str:
    """Name options where a message of the library names parameters.

    Parameters
    ----------
    message : str
        Text of an error.

    Returns
    -------
    str
        The same, as a command would be written.

    Examples
    --------
    >>> speak_options("the images have 2 different sizes; pass size=64, say.")
    'the images have 2 different sizes; pass --size 64, say.'
    >>> speak_options("n_rounds x n_instances = 96; groups=True; trusted=['a.B', 'a.C']")
    '--rounds x --batch = 96; --groups; --trusted a.B --trusted a.C'
    """
    for assigned in (_CALL, _ASSIGNED):
        message = assigned.sub(_as_option, message)
    return _NAMED.sub(lambda found: _OPTIONS[found[0]], message)


def _as_option(found: re.Match[str]) -> str:
    option, value = _OPTIONS[found[1]], found[2]
    if value == "True":
        return option
    if value.startswith("["):
        items = [item.strip().strip("'\"") for item in value[1:-1].split(",")]
        return " ".join(f"{option} {item}" for item in items if item)
    if value.startswith("("):
        return f"{option} {'x'.join(part.strip() for part in value[1:-1].split(','))}"
    bare = value.strip("'\"")
    return f"{option} {bare}" if bare and " " not in bare else f"{option} {value}"
