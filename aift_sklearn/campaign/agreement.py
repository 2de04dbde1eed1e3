"""How far annotators agree: kappas, majorities, contradictions, and what is trained on."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from .._optional import load_optional
from ..errors import DataError
from .records import Answer, Ask, Kind, Purpose

__all__ = [
    "Agreement",
    "Reader",
    "Statistic",
    "consensus",
    "labels_of",
    "majority_of",
    "measure_agreement",
]

Labels = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Statistic:
    """A number that there may be no way to compute.

    Attributes
    ----------
    value : float or None
        The number.
    n : int
        Candidates that it is of.
    reason : str
        Why there is none; empty where there is one.
    """

    value: float | None
    n: int
    reason: str = ""


@dataclass(frozen=True)
class Reader:
    """What an annotator did.

    Attributes
    ----------
    annotator : str
        Who.
    n_labels, n_skips, n_unsure : int
        Answers of each kind.
    seconds : float or None
        Median for an answer, of those that were timed.
    per_minute : float or None
        Answers in a minute on the screen, of those that were timed.
    with_majority : Statistic
        Share of their labels that the majority of the *other* readers gave too. A reader's own
        label does not count: of two readers the majority would always be right.
    """

    annotator: str
    n_labels: int
    n_skips: int
    n_unsure: int
    seconds: float | None
    per_minute: float | None
    with_majority: Statistic


@dataclass(frozen=True)
class Agreement:
    """How far the annotators of a campaign agree.

    Attributes
    ----------
    pairs : dict of (str, str) to Statistic
        Cohen's kappa of two annotators, of the candidates that both labelled: 1 where they always
        agree, 0 where as often as chance would have it. Where one class is rare, it is low even if
        they nearly always agree.
    fleiss : Statistic
        Fleiss' kappa, of the candidates that ``fleiss_readers`` people labelled.
    fleiss_readers : int or None
        The number of readers, from 2 on, that most candidates have; Fleiss' kappa takes no other.
    majority : dict of str to (str or None)
        Candidate → the label that most of its readers gave; None for a tie.
    contradictory : dict of str to dict
        Candidates with different labels: annotator → label.
    readers : tuple of Reader
        By name.
    """

    pairs: dict[tuple[str, str], Statistic]
    fleiss: Statistic
    fleiss_readers: int | None
    majority: dict[str, str | None]
    contradictory: dict[str, dict[str, str]] = field(default_factory=dict)
    readers: tuple[Reader, ...] = ()


def consensus(
    asks: Iterable[Ask], answers: Iterable[Answer], *, yardstick: bool = False
) -> dict[str, str]:
    """Choose the label of each candidate: that of its only reader, or of most of them.

    Candidates without a label have none, nor have those with a tie; skips and doubts do not count.

    Parameters
    ----------
    asks : iterable of Ask
        What was asked; other candidates are left out.
    answers : iterable of Answer
        Those that count: neither replaced nor taken back.
    yardstick : bool, default=False
        By default the yardstick is left out, which is never trained on; True takes it alone.

    Returns
    -------
    dict of str to str
        Candidate → label, in the order of ``asks``.

    Raises
    ------
    DataError
        If an annotator has two answers for a candidate.

    Examples
    --------
    >>> asks = [Ask("a", 1), Ask("b", 2), Ask("c", 3, Purpose.yardstick)]
    >>> said = [("a", "anna", "cyst"), ("b", "anna", "cyst"), ("b", "ben", "scar")]
    >>> said += [("c", "anna", "scar")]
    >>> answers = [Answer(str(k), *one[:2], label=one[2]) for k, one in enumerate(said)]
    >>> consensus(asks, answers), consensus(asks, answers, yardstick=True)
    ({'a': 'cyst'}, {'c': 'scar'})
    """
    labels = labels_of(answers)
    chosen = {}
    for ask in asks:
        if (ask.purpose is Purpose.yardstick) is yardstick and ask.candidate in labels:
            label = majority_of(labels[ask.candidate])
            if label is not None:
                chosen[ask.candidate] = label
    return chosen


def labels_of(answers: Iterable[Answer]) -> Labels:
    """Return candidate → annotator → label; skips and doubts are none.

    Raises
    ------
    DataError
        If an annotator has two answers for a candidate.
    """
    labels: Labels = {}
    seen: set[tuple[str, str]] = set()
    for answer in answers:
        pair = answer.candidate, answer.annotator
        if pair in seen or answer.kind is Kind.undo:
            raise DataError(
                f"{answer.annotator} has several answers for {answer.candidate!r}; expected those "
                "that count, without what was replaced or taken back: ledger.current()."
            )
        seen.add(pair)
        if answer.kind is Kind.label:
            labels.setdefault(answer.candidate, {})[answer.annotator] = answer.label
    return labels


def majority_of(labels: Mapping[str, str]) -> str | None:
    """Return the label that more readers gave than any other; None for a tie, or no label.

    Examples
    --------
    >>> majority_of({"anna": "cyst", "ben": "scar", "chen": "cyst"})
    'cyst'
    >>> majority_of({"anna": "cyst", "ben": "scar"}) is None
    True
    """
    counts = Counter(labels.values()).most_common(2)
    if not counts or (len(counts) == 2 and counts[0][1] == counts[1][1]):
        return None
    return counts[0][0]


def measure_agreement(answers: Iterable[Answer]) -> Agreement:
    """Measure how far annotators agree.

    Parameters
    ----------
    answers : iterable of Answer
        Those that count: neither replaced nor taken back.

    Returns
    -------
    Agreement
        What cannot be computed is None, with the reason.

    Raises
    ------
    DataError
        If an annotator has two answers for a candidate.

    Examples
    --------
    >>> said = {"anna": "aabb", "ben": "aabb", "chen": "abbb"}
    >>> answers = [
    ...     Answer(f"{who}{k}", str(k), who, label=label)
    ...     for who, labels in said.items()
    ...     for k, label in enumerate(labels)
    ... ]
    >>> agreement = measure_agreement(answers)
    >>> agreement.pairs["anna", "ben"].value, agreement.pairs["anna", "chen"].value
    (1.0, 0.5)
    >>> round(agreement.fleiss.value, 3), agreement.contradictory
    (0.657, {'1': {'anna': 'a', 'ben': 'a', 'chen': 'b'}})
    """
    answers = list(answers)
    labels = labels_of(answers)
    fleiss, n_readers = _fleiss(labels)
    own: dict[str, list[Answer]] = {}
    for answer in answers:
        own.setdefault(answer.annotator, []).append(answer)
    who = sorted(own)
    return Agreement(
        pairs=_pairs(labels, who),
        fleiss=fleiss,
        fleiss_readers=n_readers,
        majority={name: majority_of(given) for name, given in labels.items()},
        contradictory={n: given for n, given in labels.items() if len(set(given.values())) > 1},
        readers=tuple(_reader(name, own[name], labels) for name in who),
    )


def _pairs(labels: Labels, who: list[str]) -> dict[tuple[str, str], Statistic]:
    both: dict[tuple[str, str], list[tuple[str, str]]] = {
        pair: [] for pair in itertools.combinations(who, 2)
    }
    for given in labels.values():
        for pair in itertools.combinations(sorted(given), 2):
            both[pair].append((given[pair[0]], given[pair[1]]))
    return {pair: _cohen(said) for pair, said in both.items()}


def _cohen(said: list[tuple[str, str]]) -> Statistic:
    if not said:
        return Statistic(None, 0, "no candidate was labelled by both")
    from sklearn.metrics import cohen_kappa_score

    first, second = zip(*said, strict=True)
    if len({*first, *second}) == 1:
        return Statistic(None, len(said), f"all labels are {first[0]!r}: chance agrees as well")
    return Statistic(float(cohen_kappa_score(first, second)), len(said))


def _fleiss(labels: Labels) -> tuple[Statistic, int | None]:
    counts = Counter(len(given) for given in labels.values() if len(given) > 1)
    if not counts:
        return Statistic(None, 0, "no candidate was labelled by several"), None
    n_readers = max(counts, key=lambda n: (counts[n], n))
    rated = [list(given.values()) for given in labels.values() if len(given) == n_readers]
    classes = sorted({label for given in rated for label in given})
    if len(classes) == 1:
        reason = f"all labels are {classes[0]!r}: chance agrees as well"
        return Statistic(None, len(rated), reason), n_readers
    inter_rater = load_optional(
        "statsmodels.stats.inter_rater", purpose="Fleiss' kappa", extra="campaign"
    )
    table = np.array([[given.count(label) for label in classes] for given in rated])
    value = float(inter_rater.fleiss_kappa(table, method="fleiss"))
    return Statistic(value, len(rated)), n_readers


def _reader(name: str, own: list[Answer], labels: Labels) -> Reader:
    kinds = Counter(answer.kind for answer in own)
    timed = [answer.seconds for answer in own if answer.seconds is not None]
    total = sum(timed)
    return Reader(
        name,
        n_labels=kinds[Kind.label],
        n_skips=kinds[Kind.skip],
        n_unsure=kinds[Kind.unsure],
        seconds=statistics.median(timed) if timed else None,
        per_minute=60 * len(timed) / total if total > 0 else None,
        with_majority=_with_majority(
            name, [labels[one.candidate] for one in own if one.kind is Kind.label]
        ),
    )


def _with_majority(name: str, read: list[dict[str, str]]) -> Statistic:
    same = []
    for given in read:
        others = majority_of({who: label for who, label in given.items() if who != name})
        if others is not None:
            same.append(given[name] == others)
    if not same:
        return Statistic(None, 0, "no candidate with a majority of other readers")
    return Statistic(sum(same) / len(same), len(same))
