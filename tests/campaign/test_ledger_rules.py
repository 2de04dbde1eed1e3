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

PEOPLE = ["Ada", "Bob", "Cyd", "Dan"]
people = st.sampled_from(PEOPLE)
labels = st.sampled_from(SETTINGS["classes"])
what = st.sampled_from(["score", "pattern", "patches"])
kinds = st.sampled_from([Kind.label, Kind.label, Kind.label, Kind.skip, Kind.unsure])


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

    @precondition(lambda self: len(self.model.asks) < 20)
    @rule(data=st.data())
    def add_round(self, data):
        asks = self.some_asks(data)
        self.model.add_round(asks)
        last = self.model.rounds[-1]
        assert self.ledger.add_round(dataclasses.replace(last, time=None), asks) == last

    @precondition(lambda self: len(self.model.asks) < 20)
    @rule(data=st.data())
    def add_asks(self, data):
        asks = self.some_asks(data)
        self.model.add_asks(asks)
        self.ledger.add_asks(asks)

    def any_candidate(self, data):
        return data.draw(st.sampled_from(sorted(self.model.asks)))

    def an_answer(self, data, candidate, annotator):
        kind = data.draw(kinds)
        return Answer(
            self.new_id(),
            candidate,
            annotator,
            kind,
            label=data.draw(labels) if kind is Kind.label else "",
            seconds=data.draw(st.none() | st.floats(0, 100)),
            visible=tuple(data.draw(st.lists(what, max_size=2))),
            origin=data.draw(st.sampled_from(["page", "python"])),
        )

    @rule(who=people, n=st.integers(1, 4), seconds=st.sampled_from([10, 100, 600]))
    def lease(self, who, n, seconds):
        self.both(Lease(who, n, seconds))

    @rule(data=st.data(), who=people)
    def answer_a_question(self, data, who):
        candidates = [c for c in sorted(self.model.asks) if self.model.holds(c, who)]
        if candidates:
            self.both(self.an_answer(data, data.draw(st.sampled_from(candidates)), who))

    @rule(data=st.data(), who=people)
    def answer_anything(self, data, who):
        self.both(self.an_answer(data, self.any_candidate(data), who))

    @rule(data=st.data())
    def send_again(self, data):
        sent = [row.sent for row in self.model.rows if row.sent]
        if sent:
            self.both(data.draw(st.sampled_from(sent)))

    @rule(data=st.data())
    def send_another_of_the_same_uid(self, data):
        if self.model.rows:
            row = data.draw(st.sampled_from(self.model.rows))
            answer = self.an_answer(data, self.any_candidate(data), data.draw(people))
            self.both(dataclasses.replace(answer, uid=row.uid))

    @rule(who=people)
    def undo(self, who):
        self.both(Undo(self.new_id(), who))

    @rule(data=st.data(), who=people)
    def undo_again(self, data, who):
        uids = [row.uid for row in self.model.rows]
        if uids:
            self.both(Undo(data.draw(st.sampled_from(uids)), who))

    @rule(who=people)
    def release(self, who):
        self.both(Release(who))

    @rule(data=st.data(), who=people, what=what)
    def saw(self, data, who, what):
        self.both(Saw(who, self.any_candidate(data), what))

    @rule(data=st.data())
    def many_at_once(self, data):
        operations = []
        for who in data.draw(st.lists(people, min_size=2, max_size=6)):
            answer = self.an_answer(data, self.any_candidate(data), who)
            unasked = dataclasses.replace(answer, candidate="nothing")
            saw = Saw(who, answer.candidate, data.draw(what))
            others = [Lease(who, 1), Undo(answer.uid, who), Release(who), saw]
            operations.append(data.draw(st.sampled_from([answer, unasked, *others])))
        self.both(*operations)

    @rule(seconds=st.sampled_from([1, 10, 99, 100, 600]))
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
        model, ledger, candidate = self.model, self.ledger, self.any_candidate(data)
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
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
