"""A waiver is of one gate of one candidate until a moment, and of nothing else; without one nothing is let go."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.ml.ledger import Link
from mlops_assets.ml.registration import refusal
from mlops_assets.ml.waivers import WaiverError, in_force, until, waived, waivers
from mlops_assets_tests import toy
from mlops_assets_tests.evidence import about, candidate, report

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVENING = NOON + timedelta(hours=6)
BARS = {"mae": 2.0, "rmse": 2.0, "wape": 2.0}
SPEC = toy.spec("nowhere", gates=[{"metric": name, "at_most": bar} for name, bar in BARS.items()])
MAE = "mae_is_low_enough"
SHA = candidate().model_sha256


def judged(**figures):
    return report(candidate(), metrics={name: about(figures.get(name, 1.0)) for name in BARS})


def entry(gate=MAE, spec=SPEC, sha=SHA, now=NOON, expires=EVENING, why="The fair is in town.", **figures):
    [result] = [each for each in judged(**{"mae": 3.0, **figures}).held(spec) if each.gate.called == gate]
    return waived(result, "toy", sha, None, "ada", why, expires, now)


def chain(*entries):
    links = []
    for each in entries:
        links.append(Link.after(links[-1] if links else None, each))
    return links


def let_go(links, now=NOON, sha=SHA, spec=SPEC):
    return set(in_force(links, spec, sha, now))


@pytest.mark.parametrize(("seconds", "holds"), [(-1, True), (0, False), (1, False)])
def test_a_waiver_holds_until_its_moment_and_no_longer(seconds, holds):
    assert (let_go(chain(entry()), EVENING + timedelta(seconds=seconds)) == {MAE}) is holds


def test_a_waiver_is_of_its_gate_its_candidate_and_its_model_only():
    links = chain(entry())
    assert let_go(links) == {MAE}
    assert let_go(links, sha="d" * 64) == set()
    assert let_go(links, spec=toy.spec("nowhere", gates=[{"metric": "rmse", "at_most": 2.0}])) == set()
    other = toy.spec("nowhere", name="other", gates=[{"metric": "mae", "at_most": 2.0}])
    assert let_go(links, spec=other) == set()


def test_a_gate_that_was_raised_since_is_another_gate():
    raised = toy.spec("nowhere", gates=[{"metric": "mae", "at_most": 1.5}])
    assert let_go(chain(entry()), spec=raised) == set()


def test_of_several_waivers_the_newest_counts():
    links = chain(entry(), entry(expires=NOON + timedelta(minutes=1)))
    assert let_go(links, NOON + timedelta(seconds=59)) == {MAE}
    assert let_go(links, NOON + timedelta(minutes=1)) == set()
    assert [each.sequence for each in waivers(links, "toy")] == [1, 2]


def test_a_waiver_says_until_when_by_whom_and_why():
    [waiver] = in_force(chain(entry()), SPEC, SHA, NOON).values()
    assert str(waiver) == "waived until 2026-03-01 18:00 UTC by ada because The fair is in town"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mae": 1.0}, "there is nothing to waive"),
        ({"why": "  "}, "needs a reason"),
        ({"expires": NOON}, "has expired already: it is 2026-03-01 12:00 UTC"),
        ({"expires": NOON - timedelta(days=1)}, "has expired already"),
    ],
)
def test_a_waiver_that_cannot_be_is_refused(changes, said):
    with pytest.raises(WaiverError, match=said):
        entry(**changes)
    assert entry(expires=NOON + timedelta(seconds=1)).gate == MAE


def test_until_a_day_is_until_its_end_in_utc():
    assert until("2026-12-31") == datetime(2027, 1, 1, tzinfo=UTC)
    assert until("2026-12-31T12:00+02:00") == datetime(2026, 12, 31, 10, tzinfo=UTC)
    for text, said in {"tomorrow": "is no day", "2026-13-01": "is no day", "2026-12-31T12:00": "has no offset"}.items():
        with pytest.raises(WaiverError, match=said):
            until(text)


NAMES = {name: f"{name}_is_low_enough" for name in BARS}
MOMENTS = st.integers(-2, 2).map(lambda hours: EVENING + timedelta(hours=hours))


@given(
    failed=st.sets(st.sampled_from(sorted(BARS))),
    of=st.dictionaries(st.sampled_from(sorted(BARS)), st.tuples(MOMENTS, st.booleans())),
    now=MOMENTS,
)
def test_a_failed_gate_without_a_waiver_in_force_is_always_refused(failed, of, now):
    """`of` are waivers by metric: until when, and whether of this candidate."""
    everything = dict.fromkeys(BARS, 3.0)
    links = chain(
        *(
            entry(NAMES[name], sha=SHA if ours else "d" * 64, expires=expires, now=NOON, **everything)
            for name, (expires, ours) in of.items()
        )
    )
    excused = {name for name, (expires, ours) in of.items() if ours and now < expires}
    reason = refusal(candidate(), judged(**dict.fromkeys(failed, 3.0)), SPEC, in_force(links, SPEC, SHA, now))
    assert (reason is None) is (failed <= excused)
    for name in failed - excused:
        assert f"{name} is 3" in reason
