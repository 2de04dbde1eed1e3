"""Campaign: a labelling campaign with real annotators, over days."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from ..errors import DataError, LabelError, ParameterError
from ..pools import Pool, open_pool
from .beginning import open_source, plan_round_zero
from .explanations import Explanation, explain
from .folder import CampaignFolder
from .following import follow_progress
from .ledger import Ledger
from .pictures import to_png
from .records import Answer, Ask, Kind, Question, make_uid
from .settings import Settings
from .status import summarise
from .stopping import Progress, StoppingCriterion, Verdict, default_criteria

if TYPE_CHECKING:
    from .learning import LearntRound, Workshop

__all__ = ["Campaign"]

Box = tuple[float, float, float, float]

# Seconds for which settings are not read again.
_FRESH = 2.0
_CHANGEABLE = (
    "name", "classes", "batch", "show", "readers", "overlap", "adjudicate", "guidance"
)  # fmt: skip


class Campaign:
    """A labelling campaign: ask, show, record, learn, and ask again.

    Every answer is in the ledger, on the disk, before it is acknowledged; nothing there is ever
    overwritten. Reading, reviewing and correcting need no model, and load none.

    Campaigns are made by `create` and `open`.

    Parameters
    ----------
    folder : CampaignFolder
        Where it lies.
    ledger : Ledger
        Its record.
    pool : Pool, optional
        Its candidates, where they are open already.
    estimator : classifier, optional
        What learns, where it cannot be loaded by itself.
    trusted : collection of str
        Types in its models that may be built, as of `load`.

    Attributes
    ----------
    folder : CampaignFolder
        Where it lies.
    ledger : Ledger
        Rounds, asks and answers.
    settings : Settings
        What it is about.
    training : dict
        What learns in the background, which tells it here: state ("idle", "learning", "failed")
        and text.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> from aift_sklearn import AIFTClassifier, JitterPatches
    >>> X = np.random.default_rng(0).integers(0, 255, (30, 3, 8, 8), dtype=np.uint8)
    >>> folder = tempfile.mkdtemp() + "/cells"
    >>> campaign = Campaign.create(folder, X, ["dark", "bright"], yardstick=4)
    >>> question, = campaign.questions("ann")
    >>> campaign.answer(question.candidate, "dark", "ann").label
    'dark'
    >>> campaign.ledger.counts().n_labelled
    1
    >>> campaign.close()
    """

    def __init__(
        self,
        folder: CampaignFolder,
        ledger: Ledger,
        *,
        pool: Pool | None = None,
        estimator: Any = None,
        trusted: Collection[str] = (),
    ) -> None:
        self.folder, self.ledger, self.trusted = folder, ledger, tuple(trusted)
        self._pool, self._estimator = pool, estimator
        self._opening = threading.Lock()
        self._settings = Settings.from_json(ledger.settings)
        self._read_at = time.monotonic()
        self.training = {"state": "idle", "text": ""}

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        pool: Any,
        classes: Sequence[str],
        estimator: Any = None,
        *,
        ledger: str | None = None,
        name: str | None = None,
        pool_options: Mapping[str, Any] | None = None,
        trusted: Collection[str] = (),
        verbose: bool = False,
        **settings: Any,
    ) -> Self:
        """Begin a campaign; the first questions, drawn at random, are there at once.

        Parameters
        ----------
        folder : path-like
            Made here.
        pool : str, path-like, Pool or array-like
            A source, as of `open_pool`; or candidates, which `open` is then to be given again.
        classes : sequence of str
            What a candidate can be.
        estimator : classifier or AIFTLearner, optional
            What learns, by default that of ``model``. One that cannot be saved as plain data is
            to be given to `open` again.
        ledger : str, optional
            URL of a database, such as "postgresql+psycopg://ann@host/cells"; by default a file of
            SQLite in the folder.
        name : str, optional
            What the campaign is called; by default as its folder.
        pool_options : mapping, optional
            Of `open_pool`: size, groups ...
        trusted : collection of str
            Types in its models that may be built, as of `load`.
        verbose : bool, default=False
            Whether progress is shown.
        **settings
            Of `Settings`: batch, yardstick, show, readers, overlap, model ...

        Raises
        ------
        ParameterError
            If there is a campaign already, or a setting is out of its range.
        DataError
            If the folder holds something else, or the pool cannot be read.
        """
        where = CampaignFolder(folder)
        where.prepare()
        wanted = Settings(
            name or where.path.absolute().name,
            classes,  # type: ignore[arg-type]  # it makes a tuple of them
            "",
            **({"model": "custom"} if estimator is not None else {}) | settings,
        )
        opened = open_source(pool, pool_options or {}, verbose=verbose)
        kept = dataclasses.replace(wanted, source=opened.address, pool=opened.options)
        round_, asks = plan_round_zero(opened.pool, kept)
        book = Ledger.create(ledger or where.sqlite, kept.to_json())
        try:
            book.add_round(round_, asks)
            if estimator is not None:
                _save_beginning(estimator, where.beginning)
            where.finish(ledger)
            return cls(where, book, pool=opened.pool, estimator=estimator, trusted=trusted)
        except BaseException:
            book.close()
            where.clear()
            raise

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        *,
        pool: Any = None,
        estimator: Any = None,
        trusted: Collection[str] = (),
    ) -> Self:
        """Open a campaign; nothing of it is executed, and no image is read.

        Parameters
        ----------
        folder : path-like
            As of `create`.
        pool : Pool or array-like, optional
            Its candidates, where it was begun with some in memory; or where they lie now.
        estimator : classifier, optional
            What learns, where it cannot be loaded by itself.
        trusted : collection of str
            Types in its models that may be built, as of `load`: a model is asked for them when it
            learns, and not before.

        Raises
        ------
        DataError
            If there is no campaign, or it is damaged or of a newer release.
        """
        where = CampaignFolder(folder)
        book = Ledger.open(where.ledger())
        try:
            options = Settings.from_json(book.settings).pool
            opened = None if pool is None else open_source(pool, options).pool
            return cls(where, book, pool=opened, estimator=estimator, trusted=trusted)
        except BaseException:
            book.close()
            raise

    def close(self) -> None:
        """Close its ledger."""
        self.ledger.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        """Say what it is, in a line."""
        return f"Campaign({str(self.folder.path)!r}, classes={list(self.settings.classes)})"

    @property
    def settings(self) -> Settings:
        """What it is about, as another process may have changed it a moment ago."""
        if time.monotonic() - self._read_at > _FRESH:
            self._settings = Settings.from_json(self.ledger.settings)
            self._read_at = time.monotonic()
        return self._settings

    @property
    def name(self) -> str:
        """What it is called."""
        return self.settings.name

    @property
    def classes(self) -> tuple[str, ...]:
        """What a candidate can be."""
        return self.settings.classes

    @property
    def pool(self) -> Pool:
        """Its candidates; opened when they are first needed."""
        with self._opening:
            if self._pool is None:
                if not self.settings.source:
                    raise ParameterError(
                        "the campaign was begun with candidates in memory; give them again: "
                        "Campaign.open(folder, pool=...)."
                    )
                self._pool = open_pool(self.settings.source, **self.settings.pool)
            return self._pool

    def change(self, **settings: Any) -> None:
        """Change settings, from now on; the ledger keeps the former ones.

        Parameters
        ----------
        **settings
            Of `Settings`: name, guidance, batch, show, readers, overlap, adjudicate; or classes,
            with more of them at the end.

        Raises
        ------
        ParameterError
            If there is no such setting, it is settled when a campaign begins, or its value is out
            of its range.
        """
        settled = sorted(settings.keys() - set(_CHANGEABLE))
        if settled:
            raise ParameterError(
                f"{', '.join(settled)} cannot be changed; expected some of "
                f"{', '.join(_CHANGEABLE)}. The others are settled when a campaign begins."
            )
        now = Settings.from_json(self.ledger.settings)
        changed = dataclasses.replace(now, **settings)
        if changed.classes[: len(now.classes)] != now.classes:
            raise ParameterError(
                f"classes={list(changed.classes)}; expected {list(now.classes)}, as they are, and "
                "more of them at the end: answers and predictions are told by them."
            )
        kept = changed.to_json()
        self.ledger.change_settings({name: kept[name] for name in settings})
        self._settings, self._read_at = changed, time.monotonic()

    # --- questions and answers ----------------------------------------------------------------

    def questions(self, annotator: str, n: int = 1, *, seconds: float = 600.0) -> list[Question]:
        """Hand out the next questions, each to as many people as are to read it.

        Parameters
        ----------
        annotator : str
            Who asks; those that this one was handed before and did not answer come first.
        n : int, default=1
            How many.
        seconds : float, default=600
            After which a question that was not answered goes to others.

        Returns
        -------
        list of Question
            Fewer where fewer are left; `ask` and `learn` make more.
        """
        return self.ledger.lease(annotator, n, seconds)

    def answer(
        self,
        candidate: str,
        label: str | None,
        annotator: str,
        *,
        kind: Literal["label", "unsure", "skip"] = "label",
        uid: str | None = None,
        seconds: float | None = None,
        visible: Collection[str] = (),
        origin: str = "python",
    ) -> Answer:
        """Record an answer. It is on the disk when this returns.

        A further answer of the same annotator corrects the one before, which stays in the ledger.

        Parameters
        ----------
        candidate : str
            Id of what was asked for.
        label : str or None
            One of the classes; None with another ``kind``.
        annotator : str
            Who answers.
        kind : {"label", "unsure", "skip"}, default="label"
            "unsure" and "skip" leave the question to others.
        uid : str, optional
            Made by whoever may send the answer again, so that it is kept once.
        seconds : float, optional
            That the question was looked at.
        visible : collection of str
            What was seen before of what the model thinks.
        origin : str, default="python"
            What the answer came by.

        Raises
        ------
        LabelError
            If the label is no class of the campaign, or the candidate was not asked for.
        """
        if (label is None) == (kind == "label"):
            raise LabelError(
                f"label={label!r} and kind={kind!r}; expected one of {list(self.classes)}, or "
                "None and kind='unsure' or 'skip'."
            )
        return self.ledger.answer(
            Answer(
                uid or make_uid(),
                candidate,
                annotator,
                Kind(kind),
                label or "",
                seconds,
                tuple(visible),
                origin=origin,
            )
        )

    def undo(self, annotator: str, *, uid: str | None = None) -> Answer | None:
        """Take back the last answer of an annotator, whose question is theirs again.

        Returns
        -------
        Answer or None
            What was taken back is named in its ``replaces``; None where there was nothing.
        """
        return self.ledger.undo(uid or make_uid(), annotator)

    def widget(self, annotator: str) -> Any:
        """Return the page for a notebook: the same questions, hotkeys and ledger.

        Parameters
        ----------
        annotator : str
            Who answers.

        Returns
        -------
        anywidget.AnyWidget
            Shown as the last line of a cell.
        """
        from .widget import annotation_widget

        return annotation_widget(self, annotator)

    # --- learning -----------------------------------------------------------------------------

    def ask(self, n: int | None = None) -> list[Ask]:
        """Ask for more candidates, by the last model; before there is one, for typical ones.

        Parameters
        ----------
        n : int, optional
            How many, b; by default the batch of the settings. Some of the yardstick are mixed in.
        """
        return self._workshop().ask(self.settings.batch if n is None else n)

    def learn(self) -> LearntRound | None:
        """Continue fine-tuning on what is new, and ask by the model: a new round.

        Returns
        -------
        LearntRound or None
            None where nothing was labelled since the last one.

        Raises
        ------
        DataError
            If nothing was labelled yet.
        ParameterError
            If another process is learning.
        """
        return self._workshop().learn()

    def model(self) -> Any:
        """Load the model of the last round, an AIFTLearner; None before the first."""
        return self._workshop().last_model(self.ledger.rounds())

    def _workshop(self) -> Workshop:
        # Here, since it loads torch, which reading and labelling do without.
        from .learning import Workshop

        return Workshop(
            self.folder, self.ledger, self.settings, self.pool, self._estimator, self.trusted
        )

    # --- what it has come to ------------------------------------------------------------------

    def progress(self) -> Progress:
        """Sum up its rounds."""
        return follow_progress(self.folder, self.ledger, self.settings)

    def stopping(self, criteria: Sequence[StoppingCriterion] | None = None) -> list[Verdict]:
        """Say what speaks for stopping, and what against.

        Parameters
        ----------
        criteria : sequence of StoppingCriterion, optional
            By default those of `aift_sklearn.campaign.stopping`.
        """
        progress = self.progress()
        chosen = default_criteria() if criteria is None else criteria
        return [each.judge(progress) for each in chosen]

    def status(self, annotator: str | None = None) -> dict[str, Any]:
        """Sum up the campaign as JSON values, for the page and for programs."""
        return summarise(self, annotator)

    # --- what annotators see ------------------------------------------------------------------

    @property
    def grey(self) -> bool:
        """Whether candidates have one channel."""
        return self.pool.shape[1] == 1

    def picture(self, candidate: str) -> bytes:
        """Return a candidate as the model sees it, a PNG file.

        Raises
        ------
        DataError
            If it is not in the pool, or cannot be read.
        """
        pool = self.pool
        image = pool[int(pool.rows_of([candidate])[0])]
        if candidate in pool.broken:
            raise DataError(f"{candidate} cannot be read: {pool.broken[candidate]}.")
        return to_png(image)

    def surroundings(self, candidate: str) -> tuple[bytes, Box] | None:
        """Return more of the image, a PNG file, and where the candidate lies in it.

        Returns
        -------
        tuple or None
            The file, and (xmin, ymin, xmax, ymax) as shares of its width and height; None where
            there is no more to be seen than the candidate.
        """
        found = self.pool.surroundings(candidate)
        return None if found is None else (to_png(found.pixels), found.box)

    def explanation(self, candidate: str) -> Explanation | None:
        """Return why a candidate was asked for; no model is needed.

        Returns
        -------
        Explanation or None
            None where nothing is known, as of those that were drawn at random.
        """
        ask = self.ledger.ask_of(candidate)
        if ask is None:
            raise DataError(f"{candidate!r} was not asked for in this campaign.")
        return explain(ask, self.folder.explanations(ask.round))


def _save_beginning(estimator: Any, folder: Path) -> None:
    from ..persistence import save

    save(estimator, folder)
