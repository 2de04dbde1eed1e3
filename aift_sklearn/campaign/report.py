"""A page on a campaign, from its ledger: what was labelled, by whom, and how well a model does.

The page is a single HTML file without scripts or outside requests, so that it can be mailed and
archived beside the data.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._optional import load_optional
from .._page_pictures import figure_uri, thumbnail_uri
from .._versions import package_versions
from .._writing import as_path, write_atomically
from ..errors import AIFTError, ParameterError
from .agreement import Agreement, Labels, Reader, consensus, labels_of, measure_agreement
from .following import predictions_of
from .records import Kind
from .stopping import Progress

if TYPE_CHECKING:
    from .campaign import Campaign

__all__ = ["describe_agreement", "draw_learning_curve", "write_report"]

_PACKAGES = ("aift-sklearn", "numpy", "scikit-learn", "torch", "onnxruntime", "sqlalchemy")
# Pictures of a list.
_SHOWN = 24


def write_report(campaign: Campaign, out: str | os.PathLike[str]) -> Path:
    """Write a page on a campaign; no model is loaded.

    Parameters
    ----------
    campaign : Campaign
        Images are read for pictures where the pool is at hand, and left out where it is not.
    out : path-like
        HTML file to write.

    Returns
    -------
    Path
        The file.
    """
    path = as_path(out)
    if path.is_dir():
        raise ParameterError(
            f"out={str(path)!r} is a folder; expected a file such as {path / 'report.html'}."
        )
    page = _template().render(**_facts(campaign))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page.encode("utf-8", "replace"))
    return path


def draw_learning_curve(progress: Progress) -> Any:
    """Draw balanced accuracy on the yardstick over labels, with its interval.

    Parameters
    ----------
    progress : Progress
        Of a campaign.

    Returns
    -------
    matplotlib.figure.Figure or None
        None before a model was measured.
    """
    known = [each for each in progress.rounds if each.performance is not None]
    if not known:
        return None
    figure_module = load_optional(
        "matplotlib.figure", purpose="a report", extra="campaign", package="matplotlib"
    )
    figure = figure_module.Figure(figsize=(6.2, 3.6), layout="constrained")
    axes = figure.subplots()
    labels = [each.n_labels for each in known]
    found = [each.performance for each in known if each.performance is not None]
    axes.fill_between(
        labels,
        [each.balanced_low for each in found],
        [each.balanced_high for each in found],
        color="#0072B2",
        alpha=0.18,
        linewidth=0,
    )
    axes.plot(labels, [each.balanced for each in found], "o-", color="#0072B2")
    axes.set_xlabel("labels that the model was taught")
    axes.set_ylabel("balanced accuracy on the yardstick")
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _facts(campaign: Campaign) -> dict[str, Any]:
    ledger, settings = campaign.ledger, campaign.settings
    asks, answers, progress = ledger.asks(), ledger.current(), campaign.progress()
    truth = consensus(asks, answers, yardstick=True)
    labels = consensus(asks, answers)
    curve = draw_learning_curve(progress)
    agreement, said = measure_agreement(answers), labels_of(answers)
    predicted = _last_predictions(campaign)
    disputed = sorted(name for name, label in agreement.majority.items() if label is None)
    return {
        "name": settings.name,
        "settings": settings,
        "status": campaign.status(),
        "curve": None if curve is None else figure_uri(curve),
        "classes": [
            (
                name,
                sum(label == name for label in labels.values()),
                sum(label == name for label in truth.values()),
            )
            for name in settings.classes
        ],
        "annotators": [_annotator(each) for each in agreement.readers],
        "agreement_lines": describe_agreement(agreement),
        "disputed": _pictures(campaign, disputed[:_SHOWN], said),
        "n_disputed": len(disputed),
        "latest": _pictures(
            campaign,
            [each.candidate for each in answers if each.kind == Kind.label][::-1][:_SHOWN],
            said,
        ),
        "mistakes": _mistakes(campaign, truth, predicted, said),
        "matrix": _confusion(settings.classes, truth, predicted),
        "kinds": Counter(str(each.kind) for each in answers),
        "rounds": ledger.rounds(),
        "notes": ledger.notes()[-20:],
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "versions": package_versions(_PACKAGES),
    }


def describe_agreement(agreement: Agreement) -> list[str]:
    """Say how far annotators agree, in lines.

    Parameters
    ----------
    agreement : Agreement
        Of `measure_agreement`.

    Examples
    --------
    >>> describe_agreement(measure_agreement([]))
    []
    """
    lines = []
    for (one, other), found in agreement.pairs.items():
        if found.value is not None:
            lines.append(
                f"Cohen's kappa of {one} and {other}: {found.value:.2f}, on {found.n} candidates "
                "that both labelled."
            )
        elif found.n:
            lines.append(f"Cohen's kappa of {one} and {other}: none, since {found.reason}.")
    if agreement.fleiss.value is not None:
        lines.append(
            f"Fleiss' kappa: {agreement.fleiss.value:.2f}, on {agreement.fleiss.n} candidates that "
            f"{agreement.fleiss_readers} people labelled."
        )
    return lines


def _annotator(reader: Reader) -> dict[str, Any]:
    agrees = reader.with_majority
    return {
        "name": reader.annotator,
        "n_labels": reader.n_labels,
        "n_skips": reader.n_skips,
        "n_unsure": reader.n_unsure,
        "speed": "–" if reader.per_minute is None else f"{reader.per_minute:.0f}",
        "agrees": "–" if agrees.value is None else f"{agrees.value:.0%} of {agrees.n}",
    }


def _pictures(campaign: Campaign, names: Sequence[str], labels: Labels) -> list[dict[str, Any]]:
    """Read candidates for the page; without pictures where the pool is not at hand."""
    try:
        read = campaign.pool.read_known(names)
    except (AIFTError, OSError):
        read = {}
    return [
        {
            "name": name,
            "uri": thumbnail_uri(read[name]) if name in read else None,
            "labels": list(labels.get(name, {}).items()),
        }
        for name in dict.fromkeys(names)
    ]


def _last_predictions(campaign: Campaign) -> dict[str, str]:
    rounds = [each for each in campaign.ledger.rounds() if each.model]
    found = predictions_of(campaign.folder, rounds[-1]) if rounds else None
    return {} if found is None else found.labels()


def _mistakes(
    campaign: Campaign, truth: dict[str, str], predicted: dict[str, str], labels: Labels
) -> list[dict[str, Any]]:
    wrong = [
        name for name, label in truth.items() if name in predicted and predicted[name] != label
    ]
    found = _pictures(campaign, wrong[:_SHOWN], labels)
    return [each | {"predicted": predicted[each["name"]]} for each in found]


def _confusion(
    classes: Sequence[str], truth: dict[str, str], predicted: dict[str, str]
) -> list[tuple[str, list[int]]]:
    """Rows: what was labelled; columns: what the last model predicts."""
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    place = {name: k for k, name in enumerate(classes)}
    for name, label in truth.items():
        if label in place and predicted.get(name) in place:
            counts[place[label], place[predicted[name]]] += 1
    if not counts.any():
        return []
    return [(name, counts[k].tolist()) for k, name in enumerate(classes)]


def _template() -> Any:
    jinja2 = load_optional("jinja2", purpose="a report", extra="campaign")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("aift_sklearn.campaign"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.jinja")
