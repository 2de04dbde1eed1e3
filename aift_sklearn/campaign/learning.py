"""A round of a campaign: learn from what was labelled, then ask."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone

from .._writing import as_path
from ..errors import DataError, ModelFileError, ParameterError
from ..labelling.rounds import Learnt, learn_labels
from ..learner import AIFTLearner
from ..models import build_model
from ..persistence import hash_of, load, save
from ..pools import Pool
from .agreement import consensus
from .beginning import fingerprints, label_state
from .choosing import Batch, choose, look_at, mix, watch
from .folder import CampaignFolder
from .ledger import Ledger
from .ledger.checks import is_candidate_name
from .records import Ask, Purpose, Round
from .settings import Settings

__all__ = ["LearntRound", "Workshop"]

# Models of former rounds that are kept; the ledger keeps the hashes of all.
_KEPT = 3


class LearntRound(NamedTuple):
    """What came of learning.

    Attributes
    ----------
    round : Round
        As it stands in the ledger.
    learnt : Learnt
        The model, and what was new.
    asks : list of Ask
        What is asked next.
    """

    round: Round
    learnt: Learnt
    asks: list[Ask]


@dataclass
class Workshop:
    """What learns and asks: one process at a time for each campaign.

    Parameters
    ----------
    folder, ledger, settings
        Of the campaign.
    pool : Pool
        All candidates.
    estimator : classifier, optional
        What learns, where the campaign was begun with one of the user's own that cannot be stored.
    trusted : sequence of str
        As of `load`.
    """

    folder: CampaignFolder
    ledger: Ledger
    settings: Settings
    pool: Pool
    estimator: Any = None
    trusted: Sequence[str] = ()

    def learn(self) -> LearntRound | None:
        """Teach the last good model what is new, and ask by it: a new round.

        The round stands in the ledger once all of it is on the disk. What is killed before leaves
        the round before as it was.

        Returns
        -------
        LearntRound or None
            None where nothing was labelled since the last round.

        Raises
        ------
        DataError
            If nothing was labelled yet.
        ParameterError
            If another process is learning.
        """
        with self._alone():
            self._check_pool()
            rounds = self.ledger.rounds()
            agreed = consensus(self.ledger.asks(), self.ledger.current())
            labels = self._trainable(agreed)
            if not labels:
                raise DataError(
                    "no candidate has a label that may be trained on (those of the yardstick are "
                    "not); answer some questions first."
                )
            learner = self.last_model(rounds)
            number = rounds[-1].number + 1
            seed = self._seed(number)
            learnt = learn_labels(
                self.pool, labels, learner or self.beginning(), random_state=self.settings.seed
            )
            if learner is not None and not learnt.n_new and not learnt.anew:
                return None
            save(learnt.learner, self.folder.model(number))
            predictions = watch(self.pool, self.watched(), learnt.learner, self.settings)
            predictions.write(self.folder.predictions(number))
            asks = self._choose(learnt.learner, self.settings.batch, number, seed, first_rank=0)
            round_ = self.ledger.add_round(
                Round(
                    number,
                    hash_of(self.folder.model(number)),
                    {
                        "batch": self.settings.batch,
                        "model": self.settings.model,
                        "classes": list(self.settings.classes),
                        "n_new": learnt.n_new,
                        "n_foreseen": learnt.n_foreseen,
                        "anew": learnt.anew,
                        "left_out": learnt.left_out,
                        "n_broken": len(self.pool.broken),
                        "labels": label_state(agreed)._asdict(),
                    },
                    seed,
                    learnt.n_labels,
                ),
                asks,
            )
            self._tidy(number)
            return LearntRound(round_, learnt, asks)

    def ask(self, n: int) -> list[Ask]:
        """Ask for more by the last good model; without one, for the most typical candidates."""
        with self._alone():
            self._check_pool()
            rounds = self.ledger.rounds()
            # One that lacks a class that was added asks better than none.
            learner = self.last_model(rounds, whole=False) or self.beginning()
            number = rounds[-1].number
            asked = self.ledger.asks()
            rank = 1 + max((ask.rank for ask in asked if ask.round == number), default=-1)
            seed = self._seed(number, len(asked))
            if not self.folder.explanations(number):
                # People began with these before there was anything to look at them.
                first = [
                    each.candidate
                    for each in asked
                    if each.round == number and each.purpose is Purpose.yardstick
                ]
                self._keep_seen(self._drawn(first, learner, seed), number)
            asks = self._choose(learner, n, number, seed, first_rank=rank)
            self.ledger.add_asks(asks)
            return asks

    def trainable(self) -> dict[str, str]:
        """Candidate → label that may be trained on: what readers agree on, but for the yardstick.

        Nor is anything trained on that belongs to a group of the yardstick.
        """
        return self._trainable(consensus(self.ledger.asks(), self.ledger.current()))

    def _trainable(self, labels: dict[str, str]) -> dict[str, str]:
        outside = set(self.set_aside()) | self._of_set_aside_groups(labels)
        known = set(self.settings.classes)
        return {
            name: label for name, label in labels.items() if name not in outside and label in known
        }

    def set_aside(self) -> list[str]:
        """Candidates of the yardstick, asked for already or not."""
        return list(self._plan("yardstick"))

    def watched(self) -> list[str]:
        """Candidates that the model of every round predicts."""
        return list(dict.fromkeys([*self.set_aside(), *self._plan("watched")]))

    def beginning(self) -> AIFTLearner:
        """Build a learner that knows nothing yet."""
        settings = self.settings
        if settings.model != "custom":
            estimator = build_model(
                settings.model, views=settings.views, n_patches=settings.n_patches
            )
            estimator.set_params(classes=list(settings.classes), random_state=settings.seed)
            return AIFTLearner(estimator)
        if self.estimator is not None:
            begun: AIFTLearner = clone(as_learner(self.estimator))
        else:
            begun = as_learner(load(self.folder.beginning, trusted=self.trusted))
        if begun.estimator.get_params(deep=False).get("classes", ()) is None:
            begun.estimator.set_params(classes=list(settings.classes))
        return begun

    def _check_pool(self) -> None:
        """Refuse a pool in which ids mean other candidates than they did."""
        was = self._plan("fingerprints")
        if not was:
            return
        now = fingerprints(self.pool.read_known(was))
        other = [name for name, value in now.items() if value != was[name]]
        if other or len(now) < len(was) / 2:
            what = (
                f"{other[0]!r} is another image" if other else f"{len(now)} of {len(was)} are left"
            )
            raise DataError(
                f"the pool is not the one that the campaign was begun on: of {len(was)} images "
                f"looked at then {what}. Labels would be taught with wrong images; open the "
                "campaign with its own pool, read as it was read then."
            )

    def last_model(self, rounds: list[Round], *, whole: bool = True) -> AIFTLearner | None:
        """Load the last model that is whole, or None where there is none.

        Raises
        ------
        UntrustedModelError, UnsupportedModelError
            If it is whole, and what it needs was not given.
        """
        first = rounds[-1].number - _KEPT
        supplied = None if self.estimator is None else as_learner(self.estimator)
        for each in reversed(rounds):
            path = self.folder.model(each.number)
            if not each.model or each.number <= first:
                continue
            try:
                if hash_of(path) != each.model:
                    raise DataError("it is not the one that the ledger names")
                found = load(path, estimator=supplied, trusted=self.trusted)
            except (ModelFileError, DataError, OSError) as error:
                self.ledger.note("model", f"the model of round {each.number} is left: {error}")
                continue
            if not whole or self._fits(found):
                return as_learner(found)
        return None

    def _fits(self, learner: Any) -> bool:
        """Whether a model knows the classes of the campaign, which may have got more."""
        known = {str(name) for name in learner.estimator.classes_}
        return set(self.settings.classes) <= known

    def _choose(
        self, learner: AIFTLearner, n: int, number: int, seed: int, *, first_rank: int
    ) -> list[Ask]:
        """Choose a batch of a round, with its share of the yardstick; what was seen is kept."""
        asked = {ask.candidate for ask in self.ledger.asks()}
        yardstick = [name for name in self.set_aside() if name not in asked]
        inside = self._of_set_aside_groups(self.pool.ids.tolist())
        left = self.pool.sound().without(asked | set(self.set_aside()) | inside)
        left = left.without([name for name in left.ids.tolist() if not is_candidate_name(name)])
        batches = [self._batch(left, n, learner, seed)]
        batches.append(self._drawn(yardstick[: max(1, n // 2)], learner, seed))
        for batch in batches:
            self._keep_seen(batch, number)
        asks, drawn = ([] if batch is None else batch.asks for batch in batches)
        return mix(asks, drawn, self.settings, first_rank=first_rank, seed=seed)

    def _keep_seen(self, batch: Batch | None, number: int) -> None:
        if batch is not None:
            # One file for each: nothing in it tells the candidates apart.
            batch.asked.write(self.folder.next_explanation(number))

    def _drawn(self, names: list[str], learner: AIFTLearner, seed: int) -> Batch | None:
        """Look at candidates of the yardstick as at all others."""
        images = self.pool.read_known(names)
        if not images:
            return None
        seen = np.stack(list(images.values()))
        return look_at(list(images), seen, Purpose.yardstick, learner, self.settings, seed)

    def _batch(self, left: Pool, n: int, learner: AIFTLearner, seed: int) -> Batch | None:
        while n := min(n, len(left)):
            try:
                return choose(left, n, learner, self.settings, seed)
            except DataError:
                # What turned out to be broken left too few.
                sound = left.sound()
                if len(sound) == len(left):
                    raise
                left = sound
        return None

    def _of_set_aside_groups(self, names: Any) -> set[str]:
        groups = set(self._plan("groups"))
        if not groups:
            return set()
        if self.pool.groups is None:
            raise DataError(
                "the campaign keeps whole groups from training, and the pool that was given has "
                "none; open it with its groups, as the campaign was begun."
            )
        inside = np.isin(self.pool.groups, list(groups))
        return set(self.pool.ids[inside].tolist()) & set(names)

    def _plan(self, what: str) -> Any:
        return self.ledger.rounds()[0].parameters.get(what, [])

    def _seed(self, *numbers: int) -> int:
        sequence = np.random.SeedSequence((self.settings.seed, *numbers))
        return int(sequence.generate_state(1)[0])

    def _tidy(self, number: int) -> None:
        for old in range(1, number - _KEPT + 1):
            # The round stands, whether or not there is room for more.
            with contextlib.suppress(OSError):
                _remove_folder(self.folder.model(old))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        lock = self.folder.lock()
        if not lock.acquire():
            raise ParameterError(
                f"{lock.holder()} is learning or asking in {self.folder.path}; wait until it is "
                "done. Labelling goes on meanwhile."
            )
        try:
            yield
        finally:
            lock.release()


def as_learner(estimator: Any) -> AIFTLearner:
    """Return a learner as it is, and any other estimator as what a learner learns by."""
    return estimator if isinstance(estimator, AIFTLearner) else AIFTLearner(estimator)


def _remove_folder(folder: Any) -> None:
    """Remove a model, which is files without folders among them."""
    path = as_path(folder)
    if not path.is_dir():
        return
    for file in path.iterdir():
        file.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.rmdir()
