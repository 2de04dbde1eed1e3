"""A ledger against its rules, written out slowly: whatever is done to it, in whatever order."""

import dataclasses

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ledgers import SETTINGS, Clock, Model

from aift_sklearn.campaign.ledger import Lease, Ledger, Release, Saw, Undo
from aift_sklearn.campaign.records import Answer, Ask, Kind
from aift_sklearn.errors import AIFTError

people = st.sampled_from(["Ada", "Bob", "Cyd"])
labels = st.sampled_from(SETTINGS["classes"])
parts = st.sampled_from(["score", "pattern", "patches"])
kinds = st.sampled_from([Kind.label, Kind.label, Kind.label, Kind.skip, Kind.unsure])
seconds = st.sampled_from([10, 100, 600])


class LedgerMachine(RuleBasedStateMachine):
    """Does the same to a ledger and to a model of it."""

    def __init__(self, where):
        super().__init__()
        self.clock = Clock()
        self.model = Model(self.clock)
        self.where = where
        self.ledger = Ledger.create(where, SETTINGS, clock=self.clock)
        self.n = 0

    def teardown(self):
        self.ledger.close()

    def new_id(self):
        self.n += 1
        return f"id-{self.n}"

    def both(self, *operations):
        expected = []
        for operation in operations:
            try:
                expected.append(self.model.do(operation))
            except AIFTError as error:
                expected.append(type(error))
        found = self.ledger.apply(operations)
        assert expected == [type(one) if isinstance(one, Exception) else one for one in found]

    def some_asks(self, data):
        n_readers = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
        ranks = st.integers(0, 3)
        return [Ask(self.new_id(), data.draw(ranks), n_readers=n) for n in n_readers]

    @initialize(data=st.data())
    def begin(self, data):
        self.add_round(data)
        self.one_after_the_other(data, 20)

    @precondition(lambda self: len(self.model.asks) < 12)
    @rule(data=st.data())
    def add_round(self, data):
        asks = self.some_asks(data)
        self.model.add_round(asks)
        last = self.model.rounds[-1]
        assert self.ledger.add_round(dataclasses.replace(last, time=None), asks) == last

    @precondition(lambda self: len(self.model.asks) < 12)
    @rule(data=st.data())
    def add_asks(self, data):
        asks = self.some_asks(data)
        self.model.add_asks(asks)
        self.ledger.add_asks(asks)

    def an_operation(self, data, *, odd=True):
        """Anything that an annotator may do, most often what is sensible; odd: or refused."""
        who, rows = data.draw(people), self.model.rows
        held = [name for name in sorted(self.model.asks) if self.model.holds(name, who)]
        any_one = sorted(self.model.asks)
        candidate = data.draw(st.sampled_from(held or any_one))
        sent = [row.sent for row in rows if row.sent]
        ways = [
            *[lambda: Lease(who, data.draw(st.integers(1, 4)), data.draw(seconds))] * 4,
            *[lambda: self.an_answer(data, candidate, who)] * 3,
            lambda: self.an_answer(data, data.draw(st.sampled_from(any_one)), who),
            lambda: Undo(self.new_id(), who),
            lambda: Saw(who, candidate, data.draw(parts)),
            lambda: Release(who),
        ]
        if odd:
            ways += [lambda: self.an_answer(data, "nothing", who)]
        if odd and rows:
            uid = data.draw(st.sampled_from(rows)).uid
            ways += [
                lambda: Undo(uid, who),
                lambda: dataclasses.replace(self.an_answer(data, candidate, who), uid=uid),
            ]
        if sent:
            ways += [lambda: data.draw(st.sampled_from(sent))]
        return data.draw(st.sampled_from(ways))()

    def an_answer(self, data, candidate, annotator):
        kind = data.draw(kinds)
        return Answer(
            self.new_id(),
            candidate,
            annotator,
            kind,
            label=data.draw(labels) if kind is Kind.label else "",
            seconds=data.draw(st.none() | st.floats(0, 100)),
            visible=tuple(data.draw(st.lists(parts, max_size=2))),
            origin=data.draw(st.sampled_from(["page", "python"])),
        )

    @rule(data=st.data(), n=st.integers(5, 20))
    def one_after_the_other(self, data, n):
        for _ in range(n):
            self.both(self.an_operation(data))

    @rule(data=st.data(), n=st.integers(2, 20))
    def many_at_once(self, data, n):
        self.both(*(self.an_operation(data) for _ in range(n)))

    @rule(data=st.data(), n=st.integers(2, 20))
    def many_at_once_of_which_none_is_refused(self, data, n):
        self.both(*(self.an_operation(data, odd=False) for _ in range(n)))

    @rule(seconds=seconds)
    def wait(self, seconds):
        self.clock.after(seconds)

    @rule(adjudicate=st.booleans())
    def change_settings(self, adjudicate):
        self.model.adjudicate = adjudicate
        assert self.ledger.change_settings({"adjudicate": adjudicate})["adjudicate"] is adjudicate

    @rule()
    def open_again(self):
        self.ledger.close()
        self.ledger = Ledger.open(self.where, clock=self.clock)

    @invariant()
    def holds_the_same(self):
        model, ledger = self.model, self.ledger
        assert ledger.answers() == [row.plain() for row in model.rows]
        assert ledger.current() == [row.plain() for row in model.current()]
        assert ledger.counts() == model.counts()

    @rule(data=st.data(), who=people, n=st.integers(1, 5))
    def look(self, data, who, n):
        model, ledger = self.model, self.ledger
        candidate = data.draw(st.sampled_from(sorted(model.asks)))
        own = [row.plain() for row in model.rows if row.annotator == who]
        assert ledger.history(who, n) == own[::-1][:n]
        of = [row.plain() for row in model.current() if row.candidate == candidate]
        assert ledger.current_of(candidate) == of
        assert ledger.ask_of(candidate) == model.asks[candidate]
        assert ledger.seen(who, candidate) == model.seen(who, candidate)
        assert ledger.rounds() == model.rounds
        in_order = sorted(model.asks.values(), key=lambda ask: (ask.round, ask.rank, ask.candidate))
        assert ledger.asks() == in_order


def test_a_ledger_keeps_to_its_rules(places):
    run_state_machine_as_test(
        lambda: LedgerMachine(places.fresh()),
        settings=settings(
            max_examples=15,
            stateful_step_count=20,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
