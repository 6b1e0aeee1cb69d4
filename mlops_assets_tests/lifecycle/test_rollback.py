"""The drill and the job that goes back, on three real champions: what is harmed is named, and nothing moves."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg
import pytest

from mlops_assets.lifecycle.common import DRILL
from mlops_assets.lifecycle.proving import proofs
from mlops_assets.lifecycle.releasing import Release, release, roll_back
from mlops_assets.lifecycle.rollback import RollbackDrill, rollback, rollback_job
from mlops_assets.lifecycle.sensors.alerting import raise_alerts
from mlops_assets.ml.alerts import name_of
from mlops_assets.ml.golden import Golden
from mlops_assets.ml.ledger import champion, reigns
from mlops_assets.resources.registry import CANDIDATE, RECORD
from mlops_assets_tests.homes import instance_at
from mlops_assets_tests.lifecycle.stages import checks, failure, metadata, run, validated
from mlops_assets_tests.lifecycle.test_releasing import clock, trusting
from mlops_assets_tests.toy import Workshop

CHECK = "can_go_back"
ESTIMATORS = ("sklearn.linear_model.Ridge", "sklearn.linear_model.LinearRegression", "sklearn.dummy.DummyRegressor")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A home with three versions of the toy, each of which has been champion: the last serves."""
    folder = tmp_path_factory.mktemp("life")
    with instance_at(folder) as instance:
        shop = validated(Workshop(folder / "home", instance, {"gates": []}))
        for number, path in enumerate(ESTIMATORS, start=1):
            changed = Workshop(shop.home, instance, {"gates": [], "estimator": {"path": path}})
            assert run(changed, "trained_model", "evaluation_report", "registered_version").success
            evidence = {"model": changed.resources["registry"].candidate(version(changed, number)).model_sha256}
            said = {"who": "ada", "why": "By hand.", "evidence": evidence, "judged_against": number - 1 or None}
            wish = Release(model="toy", version=number, **said)
            release(wish, changed.resources["ledger"], changed.resources["registry"], clock)
        yield shop


@pytest.fixture
def shop(prepared):
    """The prepared home, with its files, tags and champions put back as they were afterwards."""
    kept = {path: path.read_bytes() for path in prepared.home.rglob("*") if path.is_file() and ".db" not in path.name}
    tags = {number: version(prepared, number).tags for number in (1, 2, 3)}
    yield prepared
    for path in set(prepared.home.rglob("*.py")) - kept.keys():
        path.unlink()
    for path, content in kept.items():
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
    for number, before in tags.items():
        for tag in (RECORD, CANDIDATE):
            prepared.resources["registry"]._tag(version(prepared, number), tag, before[tag])
    if serving(prepared) != 3:
        ledger, registry = prepared.resources["ledger"], prepared.resources["registry"]
        roll_back("toy", 3, "ada", "As it was.", ledger, registry, clock, trusting)


def version(shop, number):
    return shop.resources["registry"].version("toy", number)


def folder(shop, number):
    """Where a version's files lie."""
    uri = shop.resources["registry"].candidate(version(shop, number)).model_uri.removeprefix("models:/")
    return next(path for path in shop.home.rglob(f"{uri}/artifacts"))


def drill(shop, **changes):
    declared = Workshop(shop.home, shop.instance, {**shop.changes, **changes})
    return dg.materialize(
        list(rollback(declared.spec).assets),
        instance=shop.instance,
        resources=shop.resources,
        raise_on_error=False,
    )


def went_back(shop, **config):
    said = {"model": "toy", "person": "grace", "reason": "It got worse.", **config}
    return rollback_job(clock).execute_in_process(
        instance=shop.instance,
        resources={name: shop.resources[name] for name in ("registry", "tracking", "blobs", "ledger")},
        run_config={"ops": {"go_back": {"config": said}}},
        raise_on_error=False,
    )


def serving(shop):
    reign = champion(shop.resources["ledger"].links("toy"), "toy")
    assert shop.resources["registry"].holder("toy") == reign.version
    return reign.version


def found(shop, *numbers):
    past = reigns(shop.resources["ledger"].links("toy"), "toy")
    each = (shop.resources[name] for name in ("registry", "tracking", "blobs"))
    return proofs("toy", numbers, past, *each)


def look(shop, cursor):
    """One look of the sensor that raises alerts."""
    sensor = raise_alerts([shop.spec])
    resources = {"alerts": shop.resources["alerts"]}
    context = dg.build_sensor_context(
        instance=shop.instance, cursor=cursor, resources=resources, sensor_name=sensor.name
    )
    return sensor.evaluate_tick(context).cursor


@dataclass(frozen=True)
class Drilled:
    """A drill, what it left on record, and the sentences of the alerts that were open afterwards."""

    result: dg.ExecuteInProcessResult
    record: RollbackDrill
    alerts: dict[str, str]


@pytest.fixture(scope="module")
def drills(prepared):
    """A drill while an artifact was changed, and the next, when it was as before."""
    artifact, cursor, found = folder(prepared, 2) / "model.skops", None, []
    sound = artifact.read_bytes()
    for content in (sound[:-1] + b"x", sound):
        artifact.write_bytes(content)
        result = drill(prepared)
        cursor = look(prepared, cursor)
        alerts = {each.alert.name: each.alert.sentence for each in prepared.resources["alerts"].open()}
        found.append(Drilled(result, prepared.resources["records"].get(RollbackDrill, "toy", DRILL), alerts))
    return found


def test_a_drill_is_green_where_every_champion_answers_its_golden_rows_with_the_same_bits(drills):
    _, green = drills
    assert green.result.success
    assert checks(green.result)[CHECK].passed
    assert metadata(green.result, DRILL)["summary"] == "toy can go back to v2, v1 today."
    assert [each.version for each in green.record.proofs] == [3, 2, 1]
    assert {each.said for each in green.record.proofs} == {
        "It answers its 64 golden rows with the same bits as when it was made."
    }


def test_a_drill_without_a_champion_is_no_success(workshop):
    nobody = workshop()
    result = dg.materialize(
        list(rollback(nobody.spec).assets),
        instance=nobody.instance,
        resources=nobody.resources,
        raise_on_error=False,
    )
    assert not result.success
    assert "toy has no champion yet" in failure(result)


def test_a_changed_artifact_fails_the_check_names_the_file_and_is_an_alert_until_a_drill_passes(drills):
    harmed, green = drills
    assert harmed.result.success
    check = checks(harmed.result)[CHECK]
    assert not check.passed
    assert check.description.startswith("v2: models:/m-")
    assert "model.skops has SHA-256" in check.description
    assert metadata(harmed.result, DRILL)["summary"] == "toy can go back to v1 today. Unfit to serve: v2."
    told = name_of("failed_check", "toy", f"{DRILL} {CHECK}")
    assert "toy/rollback_drill fails the check can_go_back: v2: models:/m-" in harmed.alerts[told]
    assert told not in green.alerts


def test_as_many_champions_are_drilled_as_are_declared(shop):
    (folder(shop, 3) / "model.skops").unlink()
    rows = metadata(drill(shop, rollback={"champions": 1}), DRILL)["champions"].records
    assert [row.data["version"] for row in rows] == ["v3"]


def test_golden_rows_that_were_changed_or_lost_are_found(shop):
    blobs, candidate = shop.resources["blobs"], shop.resources["registry"].candidate(version(shop, 1))
    golden = Golden.model_validate_json(blobs.read(candidate.golden))
    for sha256 in (golden.rows, candidate.golden):
        path = shop.home / "raw" / sha256[:2] / sha256
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        [proof] = found(shop, 1)
        assert f"{sha256} holds other bytes than were stored" in proof.wrong
        path.unlink()
        [proof] = found(shop, 1)
        assert f"{sha256} is gone" in proof.wrong
        path.write_bytes(content)


def test_a_version_that_says_something_else_than_it_did_is_named_with_how_much(shop):
    registry, blobs = shop.resources["registry"], shop.resources["blobs"]
    candidate = registry.candidate(version(shop, 1))
    golden = Golden.model_validate_json(blobs.read(candidate.golden))
    first, *others = golden.answers
    other = golden.model_copy(update={"answers": ((first[0] + 0.5,), *others)})
    forged = candidate.model_copy(update={"golden": blobs.put_bytes(other.model_dump_json().encode())})
    registry._tag(version(shop, 1), RECORD, blobs.put_bytes(forged.model_dump_json().encode()))
    [proof] = found(shop, 1)
    assert "1 of 64 golden rows are answered otherwise, by up to 0.5: they have to be equal" in proof.wrong


def test_another_model_under_a_released_number_is_found_without_a_signature(shop):
    registry, one, two = shop.resources["registry"], version(shop, 1), version(shop, 2)
    for tag in (RECORD, CANDIDATE):
        registry._tag(one, tag, two.tags[tag])
    [proof] = found(shop, 1)
    assert "was released as v1: somebody changed the registry by hand" in proof.wrong


def test_a_version_that_is_gone_from_mlflow_is_unfit_and_no_outage(shop):
    assert "toy v9 is not in MLflow's registry" in found(shop, 9)[0].wrong


def test_where_models_serve_is_an_environment_of_its_own(shop, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "canary")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setenv("MLOPS_SERVING_PYTHON", str(python))
    both = found(shop, 2, 1)
    assert ["does not load where models serve: the process that loads it ended with 3" in each.wrong for each in both]
    assert "canary" not in (tmp_path / "environment").read_text()
    monkeypatch.setenv("MLOPS_SERVING_PYTHON", str(tmp_path / "nobody"))
    assert "MLOPS_SERVING_PYTHON" in found(shop, 1)[0].wrong


def test_the_job_goes_back_without_training_and_is_on_record(shop):
    result = went_back(shop)
    assert result.success
    assert serving(shop) == 2
    entry = shop.resources["ledger"].links("toy")[-2].entry
    assert (entry.kind, entry.version, entry.why) == ("rolled_back", 2, "It got worse.")
    assert entry.who == f"grace (as typed in run {result.run_id})"
    [observed] = [event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"]
    assert observed.asset_key == dg.AssetKey(["toy", "champion"])


@pytest.mark.parametrize("to", [3, 4, 99])
def test_the_job_refuses_what_is_champion_or_never_was(shop, to):
    result = went_back(shop, to=to)
    assert not result.success
    assert f"toy cannot go back to v{to}" in failure(result)
    assert serving(shop) == 3


def test_the_job_refuses_a_model_that_nobody_declared(shop):
    assert "nobody cannot go back to no champion" in failure(went_back(shop, model="nobody"))


def test_nothing_moves_where_the_version_to_go_back_to_was_changed(shop):
    before = len(shop.resources["ledger"].links("toy"))
    (folder(shop, 2) / "sitecustomize.py").write_text("")
    result = went_back(shop)
    assert "toy v2 cannot serve: models:/" in failure(result)
    assert "sitecustomize.py does not belong there" in failure(result)
    assert serving(shop) == 3
    assert len(shop.resources["ledger"].links("toy")) == before


def test_all_models_are_drilled_by_one_run_a_day_that_leaves_out_those_without_a_champion(shop):
    [schedule] = shop.definitions.schedules
    assert (schedule.name, schedule.cron_schedule) == ("rollback_drills", "0 4 * * *")
    assert schedule.default_status == dg.DefaultScheduleStatus.RUNNING
    context = dg.build_schedule_context(instance=shop.instance, resources={"ledger": shop.resources["ledger"]})
    [request] = schedule.evaluate_tick(context).run_requests
    assert request.asset_selection == [dg.AssetKey(["toy", DRILL])]


def test_no_drill_is_asked_for_while_nobody_reigns(workshop):
    nobody = workshop()
    [schedule] = nobody.definitions.schedules
    context = dg.build_schedule_context(instance=nobody.instance, resources={"ledger": nobody.resources["ledger"]})
    assert schedule.evaluate_tick(context).skip_message == "No model has a champion yet."
