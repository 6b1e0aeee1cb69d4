"""Gates and waivers on real MLflow, Dagster and ledger: a failed gate without a waiver lets nothing through."""

import json
from dataclasses import replace
from datetime import timedelta
from functools import partial

import dagster as dg
import pytest

from mlops_assets.lifecycle.approving import Desk
from mlops_assets.lifecycle.releasing import NotApprovedError
from mlops_assets.lifecycle.waiving import Wish, waive, waivers_in_force
from mlops_assets.ml.evaluation import EvaluationReport
from mlops_assets.ml.signed import signed_by
from mlops_assets.ml.waivers import WaiverError
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.keys import Keys
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import CHAMPION, Registry
from mlops_assets_tests import evidence, toy
from mlops_assets_tests.approving import Office, signing_key, trusting
from mlops_assets_tests.homes import empty_database
from mlops_assets_tests.lifecycle.stages import checks, failure, materialized, metadata, run, validated
from mlops_assets_tests.lifecycle.test_releasing import NOON, clock

GATE = "mae_is_low_enough"
STRICT = [{"metric": "mae", "at_most": 0.001}]
EVERY_KIND = [
    {"metric": "skill", "at_least": 0.2},
    {"champion": "better"},
    {"worst_slice": "mae", "at_most": 20},
    {"fairness": "metric_ratio", "between": "kind", "at_least": 0.1},
    {"calibration": "mean_bias", "at_most": 20},
    {"latency": "median", "at_most_ms": 10_000, "repeats": 20, "warm_up": 1},
    {"size": "artifact", "at_most_bytes": 10_000_000},
    {"behaviour": "mlops_assets_tests.ml.test_trying.all_is_well"},
]


def report(of):
    """The newest report, of a workshop or at a desk."""
    records = of.records if isinstance(of, Desk) else of.resources["records"]
    return records.get(EvaluationReport, "toy", "evaluation_report")


def wish(shop, until="2026-03-01", key=None, **changes):
    kept = shop.resources
    desk = Desk(
        shop.spec, kept["ledger"], kept["registry"], kept["records"], kept["blobs"], kept.get("keys", Keys()), clock
    )
    return waive(asked_for(until=until, **changes), desk, report(shop), lambda entry: as_given(entry, key))


def asked_for(**changes):
    return Wish(**{"gate": GATE, "why": "The fair is in town.", "who": "ada", "until": "2026-03-01", **changes})


def as_given(entry, key):
    """A waiver as the command makes it: signed with a person's key, or not signed."""
    if key is None:
        return entry.model_copy(update={"via": "system"})
    return signed_by(signing_key(key), entry.model_copy(update={"via": "key"}))


def kinds(shop):
    return [link.entry.kind for link in shop.resources["ledger"].links("toy")]


def raised(shop, gates):
    """The declaration with other gates, in the same home."""
    shop.spec.__dict__["gates"] = toy.spec("x", gates=gates).gates


def test_every_kind_of_gate_is_a_check_of_its_own_with_its_numbers(workshop):
    shop = validated(workshop(gates=EVERY_KIND))
    result = run(shop)
    assert result.success
    found = checks(result)
    names = [gate.called for gate in shop.spec.gates]
    assert all(found[name].passed for name in (*names, "clears_every_gate"))
    assert all(found[name].metadata["asks_for"].value for name in names)
    slices = found["mae_of_the_worst_slice_is_low_enough"].metadata
    assert slices["low"].value < slices["value"].value < slices["high"].value <= 20 == slices["at_most"].value
    assert len(slices["parts"].records) == 3
    held = found["is_better_than_the_champion"]
    assert held.description.startswith("the gain on the champion is not asked for (there is no champion yet)")
    assert found["artifact_is_small_enough"].metadata["value"].value == len(
        shop.resources["tracking"].artifact(
            shop.resources["registry"].candidate(shop.resources["registry"].versions("toy")[0])
        )
    )
    alone = run(shop, "evaluation_report", "registered_version", CHAMPION)
    assert alone.success, "the champion is not worse than itself"


def test_without_a_waiver_a_failed_gate_lets_nothing_through_however_the_run_is_started(registered):
    shop = registered
    raised(shop, STRICT)
    released = run(shop, CHAMPION)
    assert "toy v1 is not released: 1 of 1 gates failed: mae is" in failure(released)
    registered = run(shop, "registered_version")
    assert "toy is not registered: 1 of 1 gates failed: mae is" in failure(registered)
    for asked in (("registered_version", CHAMPION), ("evaluation_report", "registered_version", CHAMPION), ()):
        result = run(shop, *asked)
        assert not {"registered_version", CHAMPION} & materialized(result)
    job = shop.run(assets=["evaluation_report", "registered_version", "champion"])
    assert not job.success
    for other in ({"latency": "p99", "at_most_ms": 1e6}, {"behaviour": "mlops_assets_tests.ml.test_trying.breaks"}):
        raised(shop, [other])
        assert "materialize evaluation_report again" in failure(run(shop, "registered_version", CHAMPION))
    assert len(shop.resources["registry"].versions("toy")) == 1
    assert (shop.resources["registry"].champion("toy"), kinds(shop)) == (None, [])


def test_a_waiver_lets_one_gate_of_one_candidate_go_until_it_expires_and_is_shown_everywhere(trained):
    shop = trained
    raised(shop, STRICT)
    before = run(shop, "evaluation_report", "registered_version", CHAMPION, clock=clock)
    assert "registered_version" not in materialized(before)
    assert checks(before)[GATE].severity == dg.AssetCheckSeverity.ERROR
    link = wish(shop)
    assert (link.entry.kind, link.entry.gate, link.entry.candidate) == ("waived", GATE, report(shop).candidate)
    over = link.entry.expires

    late = run(shop, "registered_version", clock=lambda: over)
    assert "1 of 1 gates failed" in failure(late)
    result = run(
        shop, "evaluation_report", "registered_version", CHAMPION, clock=lambda: over - timedelta(microseconds=1)
    )
    assert result.success
    said = "waived until 2026-03-02 00:00 UTC by ada because The fair is in town"
    for name in (GATE, "clears_every_gate"):
        check = checks(result)[name]
        assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
        assert said in check.description
    shown = metadata(result, "registered_version")["waivers"].records[0].data
    assert (shown["gate"], shown["who"], shown["entry"]) == (GATE, "ada", 1)
    [version] = shop.resources["registry"].versions("toy")
    assert json.loads(version.tags["mlops.waived"]) == {GATE: said}
    assert kinds(shop) == ["waived", "released", "confirmed"]
    assert f"{GATE} is {said}." in shop.resources["ledger"].links("toy")[1].entry.why

    assert "not released" in failure(run(shop, CHAMPION, clock=lambda: over))
    raised(shop, [{"metric": "mae", "at_most": 0.0001}])
    assert "1 of 1 gates failed" in failure(run(shop, "registered_version", clock=clock))


def test_a_ledger_that_was_changed_lets_nothing_go(trained):
    shop = trained
    raised(shop, STRICT)
    assert not run(shop, "evaluation_report", clock=clock).success
    ledger = shop.resources["ledger"]
    wish(shop)
    forged = ledger.links()[0]
    from sqlalchemy import create_engine, text

    with create_engine(ledger.uri).begin() as connection:
        for trigger in ("mlops_ledger_no_update",):
            connection.execute(text(f"DROP TRIGGER {trigger}"))
        payload = forged.payload.replace("The fair", "A storm")
        connection.execute(text("UPDATE mlops_ledger SET payload = :payload"), {"payload": payload})
    assert "The ledger cannot be trusted, and no waiver in it: entry 1" in failure(
        run(shop, "registered_version", clock=clock)
    )
    assert shop.resources["registry"].versions("toy") == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"gate": "mea_is_low_enough"}, "toy has no gate 'mea_is_low_enough'. There are: mae_is_low_enough"),
        ({"until": "2026-02-28"}, "has expired already"),
        ({"why": " "}, "needs a reason"),
        ({"candidate": "f" * 64}, "is not the candidate that the newest report of toy judged"),
        ({"candidate": "c" * 6}, "is not the candidate that the newest report of toy judged"),
        ({"version": 7}, "toy has no v7. There are: v1"),
        ({"version": 1}, "v1 (dddddddddddd) is not the candidate that the newest report of toy judged"),
        ({"version": 1, "candidate": "c" * 64}, "a candidate or a version, not both"),
    ],
)
def test_a_waiver_of_what_is_not_there_is_refused_and_nothing_is_written(house, changes, said):
    with pytest.raises(WaiverError) as refused:
        waive(asked_for(**changes), house, judged(), unsigned)
    assert said in str(refused.value)
    assert house.ledger.links() == ()


@pytest.mark.parametrize(("changes", "version"), [({"candidate": "c" * 7}, None), ({"version": 2}, 2)])
def test_a_candidate_is_named_by_how_it_begins_or_by_its_version(house, changes, version):
    entry = waive(asked_for(**changes), house, judged(), unsigned).entry
    assert (entry.candidate, entry.version, entry.when) == ("c" * 64, version, NOON)


class StrictOffice(Office):
    """An office whose version 2 fails its only gate."""

    @property
    def spec(self):
        """The toy's declaration with a strict gate."""
        return toy.spec(self.home / "landing", release=self.rule, gates=STRICT)

    def waive(self):
        """Let the gate go until the end of the day, twelve hours from now."""
        desk = self.desk()
        waive(asked_for(who="eve"), desk, report(desk), lambda entry: self.signed(entry, "eve"))


@pytest.mark.parametrize(("minutes", "released"), [(12 * 60 - 1, True), (12 * 60, False)])
def test_what_people_approved_is_released_while_the_waiver_of_its_failed_gate_is_in_force(tmp_path, minutes, released):
    office = StrictOffice.open(tmp_path)
    office.ask()
    office.says("ana")
    with pytest.raises(NotApprovedError, match="v2 of toy was approved, and is not released: 1 of 1 gates failed"):
        office.desk().settle()
    office.waive()
    office.wait(minutes=minutes)
    if released:
        assert office.desk().settle().version == 2
    else:
        with pytest.raises(NotApprovedError, match="1 of 1 gates failed"):
            office.desk().settle()
    assert office.registry.holder("toy") == (2 if released else 1)


@pytest.fixture
def house(tmp_path):
    """A desk whose ledger is empty, with a registry where the judged candidate is v2."""
    (tmp_path / "mlflow.db").write_bytes(empty_database())
    registry = Registry(root=str(tmp_path), tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    registry.register(evidence.candidate(sha256="d" * 64, run="run-0"))
    registry.register(evidence.candidate())
    ledger = Ledger(uri=f"sqlite:///{tmp_path}/ledger.db", anchors=f"{tmp_path}/anchors")
    spec, records, blobs = toy.spec("x", gates=STRICT), Records(root=str(tmp_path)), Blobs(root=str(tmp_path))
    return Desk(spec, ledger, registry, records, blobs, Keys(), clock)


def judged():
    """A report of a candidate that fails its gate."""
    return evidence.report(evidence.candidate())


@pytest.mark.parametrize(
    ("who", "key", "said"),
    [
        ("ana", "ana", None),
        ("ana", None, "ana did not sign it, and keys are configured: only what is signed counts."),
        ("ana", "ben", "it is said to be by ana, and the key SHA256:"),
        ("eve", "eve", "is nobody's: it is not among the 2 trusted"),
    ],
)
def test_where_keys_are_configured_only_a_waiver_signed_by_its_person_is_given(house, tmp_path, who, key, said):
    desk = replace(house, keys=trusting(tmp_path / "keys", "ana", "ben"))
    asked = partial(waive, asked_for(who=who), desk, judged(), lambda entry: as_given(entry, key))
    if said is None:
        assert asked().entry.key
        return
    with pytest.raises(WaiverError) as refused:
        asked()
    assert said in str(refused.value)
    assert house.ledger.links() == ()


def test_a_waiver_that_somebody_wrote_into_the_ledger_unsigned_lets_nothing_go_once_keys_count(house, tmp_path):
    waive(asked_for(), house, judged(), unsigned)
    about = (house.spec, judged().candidate, judged(), house.ledger)
    assert set(waivers_in_force(*about, Keys(), clock)) == {GATE}
    assert waivers_in_force(*about, trusting(tmp_path / "keys", "ada"), clock) == {}


def test_a_signed_waiver_counts_until_its_key_is_taken_back(house, tmp_path):
    keys = trusting(tmp_path / "keys", "ada")
    waive(asked_for(), replace(house, keys=keys), judged(), lambda entry: as_given(entry, "ada"))
    about = (house.spec, judged().candidate, judged(), house.ledger, keys, clock)
    assert set(waivers_in_force(*about)) == {GATE}
    (tmp_path / "keys" / "ada.pub").unlink()
    assert waivers_in_force(*about) == {}


unsigned = partial(as_given, key=None)
