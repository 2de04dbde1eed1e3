"""Questions for Label Studio: tasks with what the model thinks of each, and the project's page.

The formats are those of Label Studio 1.x: https://labelstud.io/guide/tasks,
https://labelstud.io/guide/predictions and https://labelstud.io/tags/choices.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from ..._writing import as_path, write_atomically
from ...errors import DataError, ParameterError
from ..records import Ask
from ..settings import Settings
from .entries import Place
from .files import by_order, confidence, write_json

__all__ = [
    "CONTROL",
    "ID",
    "export_label_studio",
    "label_studio_config",
    "save_pictures",
    "unsure_choice",
]

CONTROL = "label"
"""Name of the choices in the project's page, by which answers are found."""
ID = "aift_id"
"""Field of a task that holds the id of its candidate."""

# Keys 1 to 9 and 0, as on the campaign's own page.
_KEYS = "1234567890"
# By a variable Label Studio means a field of the task: it needs a letter or a bracket after it.
_VARIABLE = re.compile(r"\$(?=[\w\[\].{}])")
_NO_VARIABLE = "$\u200b"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:|/data/")


def label_studio_config(settings: Settings) -> str:
    """Write the labelling page of a Label Studio project, XML.

    It shows the picture, the guidance, a button with a key for each class, and one for "unsure".
    To skip is Label Studio's own button.

    Parameters
    ----------
    settings : Settings
        Classes and guidance of the campaign.

    Returns
    -------
    str
        For Settings, Labeling Interface, Code.

    Examples
    --------
    >>> print(label_studio_config(Settings("cells", ("RBC", "<5 µm"), "images")))
    <View>
      <Choices name="label" toName="image" choice="single-radio" required="true" showInline="true">
        <Choice value="RBC" hotkey="1"/>
        <Choice value="&lt;5 µm" hotkey="2"/>
        <Choice value="unsure" hotkey="3"/>
      </Choices>
      <Image name="image" value="$image" zoom="true"/>
    </View>
    """
    lines = ["<View>"]
    if settings.guidance.strip():
        # Names of fields in it would be replaced by their values.
        guidance = _VARIABLE.sub(_NO_VARIABLE, " ".join(settings.guidance.split()))
        lines.append(f'  <Header value={quoteattr(guidance)} size="5"/>')
    lines.append(
        f'  <Choices name="{CONTROL}" toName="image" choice="single-radio" required="true" '
        'showInline="true">'
    )
    names = [*settings.classes, unsure_choice(settings.classes)]
    lines += [f"    {_choice(name, k)}" for k, name in enumerate(names)]
    # Below the buttons, which are then in sight however large it is.
    lines += ["  </Choices>", '  <Image name="image" value="$image" zoom="true"/>', "</View>", ""]
    return "\n".join(lines)


def unsure_choice(classes: Sequence[str]) -> str:
    """Return what the button for "unsure" is called, which no class is.

    Examples
    --------
    >>> unsure_choice(["a", "b"]), unsure_choice(["sure", "unsure"])
    ('unsure', '(unsure)')
    """
    name = "unsure"
    while name in classes:
        name = f"({name})"
    return name


def export_label_studio(
    path: str | os.PathLike[str],
    asks: Iterable[Ask],
    settings: Settings,
    picture_of: Callable[[str], str | os.PathLike[str] | Place],
    *,
    root: str | os.PathLike[str] | None = None,
    predictions: bool | None = None,
) -> int:
    """Write questions as tasks for Label Studio, in the order in which they should be asked.

    Each task holds fields that Label Studio lists, sorts and filters by: ``aift_id``,
    ``aift_order`` (from 1 on), ``aift_score`` (what a label is worth), ``aift_confidence`` (how
    sure the model is), ``aift_pattern`` and ``aift_round``. The page of `label_studio_config`
    shows none of them.

    Readers are blind by default: a prediction in a task is a label that is chosen already when the
    task is opened, and anchors the reader. There are none while ``settings.show`` is "after".

    Parameters
    ----------
    path : path-like
        JSON, written in one step.
    asks : iterable of Ask
        What is to be labelled: the open ones, usually.
    settings : Settings
        Classes, and when annotators see what the model thinks.
    picture_of : callable
        Candidate → URL of its picture, or path of its file.
    root : path-like, optional
        The folder that Label Studio serves files from, LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT.
        Paths are written relative to it. Relative ones are taken to be relative to it already.
    predictions : bool, optional
        Whether tasks hold the model's label; by default unless ``settings.show`` is "after".

    Returns
    -------
    int
        Number of tasks.

    Raises
    ------
    ParameterError
        If a path leads out of the root, or there is none.
    DataError
        If probabilities are not those of the classes.
    """
    shown = settings.show != "after" if predictions is None else predictions
    tasks = []
    for order, ask in enumerate(by_order(list(asks)), 1):
        task: dict[str, Any] = {
            "data": {
                "image": _url_of(picture_of(ask.candidate), root),
                ID: ask.candidate,
                "aift_order": order,
                "aift_score": _short(ask.score),
                "aift_confidence": _short(confidence(ask)),
                "aift_pattern": ask.pattern,
                "aift_round": ask.round,
            }
        }
        if shown and ask.proba:
            task["predictions"] = [_prediction(ask, settings.classes)]
        tasks.append(task)
    write_json(path, tasks)
    return len(tasks)


def save_pictures(
    folder: str | os.PathLike[str],
    candidates: Iterable[str],
    picture: Callable[[str], bytes],
) -> dict[str, Path]:
    """Save pictures of candidates, for Label Studio to serve.

    Files are called by a hash of the candidate: the same in every round, with no id
    in sight. What is there already is left as it is.

    Parameters
    ----------
    folder : path-like
        Made where it does not exist.
    candidates : iterable of str
        Their ids.
    picture : callable
        Candidate → PNG.

    Returns
    -------
    dict of str to Path
        Candidate → its file; ``root=`` of `export_label_studio` is a folder above them.

    Examples
    --------
    >>> import tempfile
    >>> saved = save_pictures(tempfile.mkdtemp() + "/tasks", ["a.png"], lambda name: b"PNG")
    >>> saved["a.png"].name, saved["a.png"].read_bytes()
    ('7f071235805fbf58.png', b'PNG')
    """
    where = as_path(folder).resolve()
    where.mkdir(parents=True, exist_ok=True)
    saved = {}
    for name in candidates:
        code = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
        saved[name] = where / f"{code[:16]}.png"
        if not saved[name].exists():
            write_atomically(saved[name], picture(name))
    return saved


def _short(number: float | None) -> float | None:
    """A number that fits into a column."""
    return None if number is None else float(f"{number:.6g}")


def _choice(name: str, k: int) -> str:
    """A button; one that looks like a variable is shown with a gap that is not seen."""
    shown = _VARIABLE.sub(_NO_VARIABLE, name)
    alias = f" alias={quoteattr(name)}" if shown != name else ""
    key = f' hotkey="{_KEYS[k]}"' if k < len(_KEYS) else ""
    return f"<Choice value={quoteattr(shown)}{alias}{key}/>"


def _prediction(ask: Ask, classes: Sequence[str]) -> dict[str, Any]:
    if len(ask.proba) != len(classes):
        raise DataError(
            f"{ask.candidate!r} has {len(ask.proba)} probabilities; expected {len(classes)}, one "
            f"for each of {list(classes)}."
        )
    best = max(ask.proba)
    choice = classes[ask.proba.index(best)]
    result = {
        "from_name": CONTROL,
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [choice]},
    }
    return {"model_version": f"aift round {ask.round}", "score": best, "result": [result]}


def _url_of(picture: str | os.PathLike[str] | Place, root: str | os.PathLike[str] | None) -> str:
    where = os.fspath(picture.image if isinstance(picture, Place) else picture)
    # A drive of Windows has one letter.
    if _URL.match(where):
        return where
    path = Path(where)
    if path.is_absolute():
        if root is None:
            raise ParameterError(
                f"the picture {where} is a path; expected root=, the folder that Label Studio "
                "serves files from (LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT), or URLs."
            )
        path = _below(path, as_path(root))
    name = posixpath.normpath(PurePath(path).as_posix())
    if name.startswith("../") or name == ".." or Path(name).is_absolute():
        raise ParameterError(
            f"the picture {where} lies outside of {root or 'the folder that is served'}; expected "
            "one in it, for Label Studio serves no other."
        )
    return f"/data/local-files/?d={quote(name)}"


def _below(path: Path, root: Path) -> Path:
    """A path relative to a folder, whether or not links lead there; itself if it is not in it."""
    real = path.parent.resolve() / path.name
    for own, folder in ((path, root), (real, root.resolve())):
        if own.is_relative_to(folder):
            return own.relative_to(folder)
    return path
