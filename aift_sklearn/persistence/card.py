"""The model card: what a saved model is, for the people who find its folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["model_card"]

_SUPPLY = (
    " The candidates it was taught are not in this folder. It predicts without them; to teach it "
    "more with replay, supply them: `load(FOLDER, memory=(X, y))`."
)


def model_card(estimator: Any, model: Mapping[str, Any], *, include_memory: bool = True) -> str:
    """Describe a saved model in Markdown, with the front matter that model hubs read.

    Parameters
    ----------
    estimator : estimator
        What is saved.
    model : mapping
        Contents of ``model.json``: class, versions, written, files.
    include_memory : bool, default=True
        Whether the labelled candidates are stored with it.

    Returns
    -------
    str
        The text of ``README.md``.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> model = {"class": "LogisticRegression", "versions": {}, "written": "", "files": {}}
    >>> card = model_card(LogisticRegression(), model)
    >>> card.splitlines()[0], "Not fitted" in card
    ('---', True)
    """
    name = model["class"]
    classifier = getattr(estimator, "estimator", None) if name == "AIFTLearner" else estimator
    classes = getattr(classifier, "classes_", None)
    parts = [
        _front_matter(classes),
        f"# {name}",
        "A model of aift-sklearn, active incremental fine-tuning for biomedical images, saved on "
        f"{model['written']}.",
        "## Use",
        "```python\nfrom aift_sklearn import load\n\nmodel = load(FOLDER)\n```",
        "Loading runs no code from this folder. For a network of your own, supply an estimator "
        "built as this one was: `load(FOLDER, estimator=...)`."
        + ("" if include_memory or classes is None else _SUPPLY),
        "## What it was taught",
        *_taught(classifier, classes),
        "## How it was trained",
        *_training(classifier),
        "## Limits",
        "For research. It knows the classes above and no others, and images like those it was "
        "taught: other scanners, stains, hospitals or patients may turn out differently. Check it "
        "on your own labelled data before you rely on it. Its probabilities are "
        + ("calibrated by temperature." if _calibrated(classifier) else "not calibrated."),
        "## Parameters",
        # Not of a learner, whose parameters include the images.
        f"```\n{classifier!r}\n```",
        "## Versions and files",
        _table(("package", "version"), model["versions"].items()),
        _table(("file", "SHA-256"), ((f"`{k}`", f"`{v}`") for k, v in model["files"].items())),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front_matter(classes: Any) -> str:
    lines = ["---", "library_name: aift-sklearn", "license: other"]
    lines += ["pipeline_tag: image-classification", "tags:"]
    lines += [f"- {tag}" for tag in ("active-learning", "fine-tuning", "biomedical-imaging")]
    if classes is not None:
        lines.append(f"number_of_classes: {len(classes)}")
    return "\n".join([*lines, "---"])


def _taught(classifier: Any, classes: Any) -> list[str]:
    if classes is None:
        return ["Not fitted: it has not seen a label."]
    listed = ", ".join(f"{c}" for c in classes)
    memory = getattr(classifier, "memory_", None)
    if memory is None:
        return [f"Classes: {listed}."]
    counts = Counter(str(label) for label in memory.y)
    rounds = np.unique(memory.round)
    rows = [
        (c, counts[str(c)], *(int((memory.y[memory.round == r] == c).sum()) for r in rounds))
        for c in classes
    ]
    total = ("all", len(memory.y), *(int((memory.round == r).sum()) for r in rounds))
    shape = " x ".join(map(str, memory.X.shape[1:]))
    kind = "images (channels x height x width)" if memory.X.ndim == 4 else "candidates"
    table = _table(("class", "labels", *(f"round {r}" for r in rounds)), [*rows, total])
    text = f"{len(memory.y)} labelled {kind} of {shape}, in {len(rounds)} rounds."
    # A column per round is read up to about a dozen.
    if len(rounds) > 12:
        table = _table(("class", "labels"), [row[:2] for row in [*rows, total]])
    return [text, table]


def _training(classifier: Any) -> list[str]:
    inner = getattr(classifier, "estimator_", classifier)
    history = getattr(inner, "history_", None)
    texts = []
    patches = getattr(classifier, "patches_", None)
    if patches is not None:
        texts.append(f"Patches of each candidate: `{' '.join(repr(patches).split())}`.")
    if history:
        last = history[-1]
        valid = f", {last['valid_loss']:.3f} on held-out images" if "valid_loss" in last else ""
        seconds = sum(epoch["dur"] for epoch in history)
        texts.append(
            f"{len(history)} epochs in all, {seconds:.3g} s; the last one ended with a loss of "
            f"{last['train_loss']:.3f}{valid}."
        )
    return texts or ["Nothing is recorded."]


def _calibrated(classifier: Any) -> bool:
    inner = getattr(classifier, "estimator_", classifier)
    return bool(getattr(inner, "temperature_", 1.0) != 1.0)


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join(lines) if len(lines) > 2 else ""
