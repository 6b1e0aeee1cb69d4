"""A release, a race, a cut in the middle and a restoration, on a real registry and a real ledger."""

from datetime import UTC, datetime, timedelta

import pytest

from mlops_assets.lifecycle.proving import UnfitError, proves
from mlops_assets.lifecycle.releasing import LostError, Release, adopt, follow, release, restore, roll_back
from mlops_assets.ml.ledger import champion, unconfirmed
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.registry import CHAMPION, Registry, RegistryConflictError
from mlops_assets.resources.tracking import Tracking, TrackingUnavailableError
from mlops_assets_tests.evidence import candidate
from mlops_assets_tests.homes import empty_database

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def clock():
    return NOON


@pytest.fixture
def registry(tmp_path):
    """Three versions, of which none is champion."""
    (tmp_path / "mlflow.db").write_bytes(empty_database())
    registry = Registry(root=str(tmp_path), tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    for number in (1, 2, 3):
        registry.register(candidate(sha256=f"{number:064d}", run=f"run-{number}"))
    return registry


@pytest.fixture
def ledger(tmp_path):
    return Ledger(uri=f"sqlite:///{tmp_path}/ledger.db", anchors=f"{tmp_path}/anchors")


def wish(version, judged_against=None):
    said = {"who": "ada", "why": "It is better.", "evidence": {"model": f"{version:064d}"}}
    return Release(model="toy", version=version, judged_against=judged_against, **said)


def away(registry):
    return Registry(root=registry.root, tracking_uri="http://127.0.0.1:9")


def trusting(model, version, past):
    """The proof of whoever believes that every version can serve."""


def kinds(ledger):
    return [(link.entry.kind, link.entry.version) for link in ledger.links("toy")]


def test_a_release_is_an_entry_an_alias_and_a_confirmation(registry, ledger):
    reign = release(wish(1), ledger, registry, clock)
    assert kinds(ledger) == [("released", 1), ("confirmed", 1)]
    assert (reign.version, reign.since, reign.confirmed, reign.evidence) == (1, NOON, NOON, wish(1).evidence)
    assert registry.holder("toy") == 1
    assert release(wish(2, judged_against=1), ledger, registry, clock).previous == 1
    assert registry.champion("toy").previous_champion == 1


def test_a_release_done_again_changes_nothing(registry, ledger):
    assert release(wish(1), ledger, registry, clock) == release(wish(1), ledger, registry, clock)
    assert kinds(ledger) == [("released", 1), ("confirmed", 1)]


@pytest.mark.parametrize(("judged_against", "named"), [(None, "no champion"), (1, "v1"), (7, "v7")])
def test_who_was_judged_against_another_champion_loses_is_told_and_is_on_record(
    registry, ledger, judged_against, named
):
    release(wish(1), ledger, registry, clock)
    release(wish(2, judged_against=1), ledger, registry, clock)
    why = f"v3 of toy was judged against {named}, and the champion is v2 now."
    with pytest.raises(LostError, match=why):
        release(wish(3, judged_against), ledger, registry, clock)
    lost = ledger.links("toy")[-1].entry
    assert (lost.kind, lost.version, lost.previous, lost.why) == ("lost", 3, judged_against, why)
    assert registry.holder("toy") == champion(ledger.links(), "toy").version == 2


def test_a_release_whose_registry_is_away_stands_in_the_ledger_and_is_ended_later(registry, ledger):
    release(wish(1), ledger, registry, clock)
    with pytest.raises(TrackingUnavailableError):
        release(wish(2, judged_against=1), ledger, away(registry), clock)
    assert kinds(ledger)[2:] == [("released", 2)]
    assert unconfirmed(ledger.links(), "toy").entry.version == 2
    assert registry.holder("toy") == 1
    assert follow("toy", ledger, registry, clock)
    assert registry.holder("toy") == 2
    assert not follow("toy", ledger, registry, clock)
    assert kinds(ledger)[2:] == [("released", 2), ("confirmed", 2)]


def test_a_release_that_came_before_the_end_of_the_one_before_leaves_one_champion(registry, ledger):
    release(wish(1), ledger, registry, clock)
    with pytest.raises(TrackingUnavailableError):
        release(wish(2, judged_against=1), ledger, away(registry), clock)
    release(wish(3, judged_against=2), ledger, registry, clock)
    assert registry.holder("toy") == 3
    assert not follow("toy", ledger, registry, clock)
    assert kinds(ledger)[2:] == [("released", 2), ("released", 3), ("confirmed", 3)]


def test_an_alias_is_put_back_with_a_name_and_a_reason(registry, ledger):
    release(wish(1), ledger, registry, clock)
    Tracking(root=registry.root, tracking_uri=registry.tracking_uri).client.set_registered_model_alias(
        "toy", CHAMPION, "3"
    )
    assert "on v1 again" in restore("toy", "grace", "An accident", ledger, registry, clock)
    assert registry.holder("toy") == 1
    entry = ledger.links("toy")[-2].entry
    assert (entry.kind, entry.who, entry.why) == ("restored", "grace", "An accident (the alias was on v3)")
    assert restore("toy", "grace", "Again", ledger, registry, clock).endswith("where it should be.")
    assert kinds(ledger)[2:] == [("restored", 1), ("confirmed", 1)]


def test_there_is_nothing_to_restore_where_nobody_reigns(registry, ledger):
    assert "has no champion" in restore("toy", "ada", "x", ledger, registry, clock)
    assert kinds(ledger) == []


def test_only_a_champion_that_was_made_one_here_is_adopted(registry, ledger):
    assert adopt("toy", ledger, registry, clock) is None
    client = Tracking(root=registry.root, tracking_uri=registry.tracking_uri).client
    client.set_registered_model_alias("toy", CHAMPION, "3")
    assert adopt("toy", ledger, registry, clock) is None
    registry.crown("toy", 2, None)
    for _ in range(2):
        assert adopt("toy", ledger, registry, clock).version == 2
    assert kinds(ledger) == [("adopted", 2)]


def test_the_time_of_a_release_is_the_clocks(registry, ledger):
    times = iter(NOON + timedelta(minutes=minute) for minute in range(9))
    reign = release(wish(1), ledger, registry, lambda: next(times))
    assert (reign.since, reign.confirmed) == (NOON, NOON + timedelta(minutes=1))


def test_a_rollback_makes_the_champion_before_this_serve_again_and_is_on_record(registry, ledger):
    release(wish(1), ledger, registry, clock)
    release(wish(2, judged_against=1), ledger, registry, clock)
    reign = roll_back("toy", None, "grace", "It got worse.", ledger, registry, clock, trusting)
    assert (reign.version, reign.previous, reign.kind, reign.who) == (1, 2, "rolled_back", "grace")
    assert registry.champion("toy").number == 1
    assert registry.champion("toy").reign == 3
    assert roll_back("toy", 2, "grace", "It did not.", ledger, registry, clock, trusting).version == 2
    assert kinds(ledger)[4:] == [("rolled_back", 1), ("confirmed", 1), ("rolled_back", 2), ("confirmed", 2)]
    with pytest.raises(LostError, match="judged against v1, and the champion is v2 now"):
        release(wish(3, judged_against=1), ledger, registry, clock)


@pytest.mark.parametrize("to", [None, 1, 3, 9])
def test_there_is_no_way_back_to_what_never_was_champion_or_is_it_now(registry, ledger, to):
    release(wish(1), ledger, registry, clock)
    with pytest.raises(RegistryConflictError, match=r"cannot go back to .*: its champion is v1, .* Those are: v1\."):
        roll_back("toy", to, "ada", "x", ledger, registry, clock, trusting)
    assert kinds(ledger) == [("released", 1), ("confirmed", 1)]


def test_a_rollback_whose_registry_is_away_is_not_begun(registry, ledger):
    release(wish(1), ledger, registry, clock)
    release(wish(2, judged_against=1), ledger, registry, clock)
    root = registry.root
    gone = away(registry)
    prove = proves(gone, Tracking(root=root, tracking_uri=gone.tracking_uri), Blobs(root=root))
    with pytest.raises(TrackingUnavailableError):
        roll_back("toy", None, "ada", "x", ledger, gone, clock, prove)
    assert champion(ledger.links(), "toy").version == registry.holder("toy") == 2
    assert kinds(ledger)[4:] == []


def test_what_cannot_serve_is_not_gone_back_to(registry, ledger):
    def refusing(model, version, past):
        raise UnfitError(f"{model} v{version}, after {len(past)} champions")

    release(wish(1), ledger, registry, clock)
    release(wish(2, judged_against=1), ledger, registry, clock)
    with pytest.raises(UnfitError, match="toy v1, after 2 champions"):
        roll_back("toy", None, "ada", "x", ledger, registry, clock, refusing)
    assert champion(ledger.links(), "toy").version == registry.holder("toy") == 2
    assert kinds(ledger)[4:] == []


def test_a_release_while_the_way_back_was_looked_at_is_not_rolled_over(registry, ledger):
    def slow(model, version, past):
        release(wish(3, judged_against=2), ledger, registry, clock)

    release(wish(1), ledger, registry, clock)
    release(wish(2, judged_against=1), ledger, registry, clock)
    with pytest.raises(RegistryConflictError, match="another champion while v1 was looked at: v3 by ada"):
        roll_back("toy", None, "grace", "x", ledger, registry, clock, slow)
    assert champion(ledger.links(), "toy").version == registry.holder("toy") == 3
