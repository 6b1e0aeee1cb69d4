"""drift_report on real storage and a real registry, and the ticks of the drift sensor."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from urllib.parse import unquote

import dagster as dg
import pytest

from mlops_assets.lifecycle.monitoring import monitoring
from mlops_assets.ml.monitoring import DriftReport
from mlops_assets_tests import evidence, toy
from mlops_assets_tests.toy import Workshop

FITTED = ("2024-01", "2024-02", "2024-03")
KEY = dg.AssetKey(["toy", "drift_report"])


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A workshop whose champion was fitted on January and February; of what came later May is another world."""
    folder = tmp_path_factory.mktemp("shop")
    with dg.instance_for_test(temp_dir=str(folder)) as instance:
        shop = Workshop(folder / "home", instance, {})
        arrive(shop, {month: toy.rows(month) for month in FITTED})
        assert shop.run(FITTED, ("trained_model", "evaluation_report", "registered_version")).success
        arrive(shop, {"2024-04": toy.rows("2024-04"), "2024-05": moved("2024-05"), "2024-06": toy.rows("2024-06")})
        yield shop


def moved(month):
    return toy.rows(month, shift=25).assign(kind="b")


def arrive(shop, delivered):
    """Months' rows delivered and validated."""
    for month, rows in delivered.items():
        toy.deliver(shop.landing, month, rows)
    assert shop.run(list(delivered), ("raw_data", "quarantined_rows", "validated_features")).success


def judge(shop, *months):
    return shop.run(months, ("drift_report",))


def reported(shop, month: str) -> DriftReport | None:
    return shop.resources["records"].get(DriftReport, "toy", "drift_report", f"{month}-01")


def metadata(shop, month: str) -> dict:
    wanted = dg.AssetRecordsFilter(asset_key=KEY, asset_partitions=[f"{month}-01"])
    return shop.instance.fetch_materializations(wanted, limit=1).records[0].asset_materialization.metadata


def saved(shop, url: str) -> str:
    base = shop.resources["reports"].ui
    return (shop.home / "reports" / unquote(url.removeprefix(f"{base}/"))).read_text()


def failure(result) -> dg.Failure | str:
    return result.failure_data_for_node("toy__drift_report").error.message if result.all_events else ""


@pytest.mark.parametrize(("month", "verdict"), [("2024-04", "stable"), ("2024-05", "drifted")])
def test_a_month_like_those_before_is_stable_and_another_world_is_drifted(shop, month, verdict):
    result = judge(shop, month)
    assert result.success
    found = reported(shop, month)
    assert (found.verdict, found.version, found.rows, found.usual_rows) == (verdict, 1, 300, 300)
    [check] = result.get_asset_check_evaluations()
    assert (check.check_name, check.passed) == ("has_not_drifted", verdict == "stable")
    assert check.severity == dg.AssetCheckSeverity.WARN


def test_the_metadata_tell_the_whole_story_and_lead_to_the_page(shop):
    judge(shop, "2024-05")
    report, entries = reported(shop, "2024-05"), metadata(shop, "2024-05")
    assert entries["verdict"].value == "drifted"
    assert entries["summary"].value == report.sentence
    assert "kind (psi" in report.sentence
    assert entries["judged_against_version"].value == 1
    assert entries["drift_per_column"].value.startswith("![")
    assert {row.data["column"] for row in entries["effects"].records} == {"price", "wind", "kind", "(prediction)"}
    assert report.left_out == {"event_time": "the time column"}
    page = saved(shop, entries["report_html"].value)
    assert "toy, 2024-05-01: drifted" in page
    assert "Drift in column" in page
    assert json.loads(saved(shop, entries["report_json"].value)) == report.model_dump(mode="json")


def test_a_run_over_several_months_judges_each_and_draws_the_newest(shop):
    assert judge(shop, "2024-04", "2024-05", "2024-06").success
    verdicts = {month: reported(shop, month).verdict for month in ("2024-04", "2024-05", "2024-06")}
    assert verdicts == {"2024-04": "stable", "2024-05": "drifted", "2024-06": "stable"}
    assert len({metadata(shop, month)["summary"].value for month in verdicts}) == 3
    drawn = [month for month in verdicts if metadata(shop, month)["report_html"].value.startswith("http")]
    assert drawn == ["2024-06"]
    assert "materialize this one by itself" in metadata(shop, "2024-04")["report_html"].value


def test_without_a_champion_the_report_fails_and_says_so(workshop):
    empty = workshop()
    arrive(empty, {"2024-01": toy.rows("2024-01")})
    result = judge(empty, "2024-01")
    assert not result.success
    assert "no version that has been champion was fitted without these rows" in failure(result)
    assert reported(empty, "2024-01") is None


def test_no_partition_is_judged_by_a_version_that_was_fitted_on_it_and_the_good_ones_are_kept(shop):
    result = judge(shop, "2024-02", "2024-03")
    assert not result.success
    assert "toy/drift_report[2024-02-01]: no version" in failure(result)
    assert reported(shop, "2024-02") is None
    assert reported(shop, "2024-03").verdict == "stable"
    assert metadata(shop, "2024-03")["verdict"].value == "stable"


def test_rows_that_were_not_validated_are_refused_by_name(shop):
    result = judge(shop, "2024-06", "2024-07")
    assert not result.success
    assert "toy/drift_report[2024-07-01]: there are no validated rows" in failure(result)
    assert reported(shop, "2024-06").verdict == "stable"


def test_the_same_rows_judged_twice_give_the_same_report(shop):
    judge(shop, "2024-04")
    once = reported(shop, "2024-04")
    judge(shop, "2024-04")
    assert reported(shop, "2024-04") == once


def test_a_champion_whose_artifact_was_changed_judges_nothing(shop):
    [artifact] = shop.home.rglob("*.skops")
    content = artifact.read_bytes()
    artifact.write_bytes(content[:-1] + b"x")
    result = judge(shop, "2024-04")
    artifact.write_bytes(content)
    assert not result.success
    assert "toy/drift_report[2024-04-01]" in failure(result)


def test_what_retraining_runs_needs_no_partition(shop):
    assert shop.run((), ("evaluation_report",)).success


class Ticks:
    """The drift sensor of a workshop, ticked as the daemon ticks it: with the cursor that the last tick left."""

    def __init__(self, shop):
        self.shop, self.cursor = shop, None
        self.sensor = monitoring(shop.spec).sensors[0]

    def tick(self) -> dg.SkipReason | Sequence[dg.RunRequest]:
        context = dg.build_sensor_context(
            instance=self.shop.instance, cursor=self.cursor, resources={"records": self.shop.resources["records"]}
        )
        found = self.sensor(context)
        if isinstance(found, dg.SkipReason):
            return found
        self.cursor = found.cursor
        return found.run_requests


@pytest.fixture
def ticks(workshop):
    """The sensor on a workshop with drift reports of the given verdicts, one a month from January on."""

    def open_ticks(*verdicts, **changes):
        ticking = Ticks(workshop(**changes))
        for month, verdict in zip(toy.MONTHS, verdicts, strict=False):
            report(ticking.shop, month, verdict)
        return ticking

    return open_ticks


def report(shop, month, verdict, version=1, **changes):
    fields = {
        "model": "toy",
        "partition": f"{month}-01",
        "first": datetime.fromisoformat(f"{month}-01T00:00:00+00:00"),
        "version": version,
        "delivery": f"bytes of {month}",
        "rows": 300,
        "usual_rows": 300,
        "reference_rows": 600,
        "columns": (),
        "left_out": {},
        "prediction": None,
        "weighted_share": {"stable": 0.0, "watch": 0.2, "drifted": 0.7}[verdict],
        "verdict": verdict,
        "sentence": f"{verdict}: by hand.",
        **changes,
    }
    shop.resources["records"].put("toy", "drift_report", DriftReport(**fields), fields["partition"])


def trained(shop, **deliveries):
    made_of = evidence.candidate().manifest.model_copy(update={"deliveries": deliveries})
    shop.resources["records"].put("toy", "trained_model", evidence.candidate(manifest=made_of))


def test_the_sensor_says_that_there_is_nothing_to_look_at(ticks):
    assert ticks().tick().skip_message == "toy has no drift report yet."


@pytest.mark.parametrize(
    ("verdicts", "asks"),
    [
        (["drifted"], False),
        (["drifted", "stable", "drifted"], True),
        (["drifted", "drifted", "stable"], False),
        (["drifted", "stable", "stable", "drifted"], False),
        (["stable", "drifted", "drifted"], True),
    ],
)
def test_the_sensor_asks_when_k_of_the_last_n_reports_drifted(ticks, verdicts, asks):
    found = ticks(*verdicts).tick()
    assert (not isinstance(found, dg.SkipReason)) == asks


def test_the_sensor_shows_what_it_looked_at(ticks):
    assert ticks("drifted", "watch").tick().skip_message == (
        "Against version 1, newest first: 2024-02-01 watch (20%), 2024-01-01 drifted (70%). "
        "Retraining takes 2 drifted of the last 3, the newest among them."
    )


def test_a_drifted_report_asks_once_however_often_it_is_looked_at(ticks):
    ticking = ticks("drifted", "drifted")
    [asked] = ticking.tick()
    because = {"mlops/model": "toy", "mlops/reason": "drift", "mlops/because": "2024-02-01"}
    assert asked.tags == {**because, "mlops/request": asked.run_key}
    ended(ticking.shop, asked, dg.DagsterRunStatus.SUCCESS)
    assert "was asked for already" in ticking.tick().skip_message
    ticking.cursor = None
    assert ticking.tick()[0].run_key == asked.run_key


def ended(shop, asked, status):
    shop.instance.add_run(dg.DagsterRun(job_name="toy_lifecycle", tags=asked.tags, status=status))


def test_retraining_whose_run_died_is_asked_for_once_more_and_then_given_up_with_the_reason(ticks):
    ticking = ticks("drifted", "drifted")
    [first] = ticking.tick()
    ended(ticking.shop, first, dg.DagsterRunStatus.FAILURE)
    [second] = ticking.tick()
    assert second.run_key != first.run_key
    ended(ticking.shop, second, dg.DagsterRunStatus.FAILURE)
    for _ in range(2):
        assert "is given up: runs died on it 2 times; materialize trained_model." in ticking.tick().skip_message
    report(ticking.shop, "2024-03", "drifted")
    assert len(ticking.tick()) == 1


def test_retraining_that_a_person_cancelled_is_not_asked_for_again(ticks):
    ticking = ticks("drifted", "drifted")
    ended(ticking.shop, ticking.tick()[0], dg.DagsterRunStatus.CANCELED)
    assert "is given up: its run was cancelled; materialize trained_model." in ticking.tick().skip_message


def test_the_next_drifted_report_asks_anew(ticks):
    ticking = ticks("drifted", "drifted")
    [first] = ticking.tick()
    report(ticking.shop, "2024-03", "drifted")
    [second] = ticking.tick()
    assert second.run_key != first.run_key


def test_the_run_that_is_asked_for_trains_judges_and_registers_and_judges_no_drift(ticks):
    shop = ticks("drifted", "drifted").shop
    sensor = shop.definitions.resolve_sensor_def("toy_drift")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert sensor.job_name == "toy_lifecycle"
    wired = {"definitions": shop.definitions, "resources": {"records": shop.resources["records"]}}
    context = dg.build_sensor_context(instance=shop.instance, sensor_name="toy_drift", **wired)
    [asked] = sensor.evaluate_tick(context).run_requests
    names = [key.path[-1] for key in asked.asset_selection]
    assert names == ["trained_model", "evaluation_report", "registered_version"]


def test_reports_against_a_version_that_no_longer_serves_do_not_count(ticks):
    ticking = ticks("drifted", "drifted")
    report(ticking.shop, "2024-03", "drifted", version=2)
    assert "Against version 2, newest first: 2024-03-01 drifted (70%)." in ticking.tick().skip_message


def test_batches_are_looked_at_in_order_of_their_rows_whatever_their_names(ticks):
    source = {"uri": "landing", "files": ["{partition}.csv"]}
    ticking = ticks(source=source, partitions={"every": "batch"})
    for month, name, verdict in zip(
        toy.MONTHS, ("b-9", "b-10", "b-11"), ("stable", "drifted", "drifted"), strict=False
    ):
        report(ticking.shop, month, verdict, partition=name)
    [asked] = ticking.tick()
    assert asked.tags["mlops/because"] == "b-11"


def test_what_a_candidate_has_already_been_trained_with_asks_for_nothing(ticks):
    ticking = ticks("drifted", "drifted")
    trained(ticking.shop, **{"2024-02-01": "bytes of 2024-02"})
    assert "already been trained with 2024-02-01" in ticking.tick().skip_message
    trained(ticking.shop, **{"2024-02-01": "other bytes"})
    assert len(ticking.tick()) == 1


def test_nothing_is_asked_for_while_a_run_of_the_model_is_going_on(ticks):
    ticking = ticks("drifted", "drifted")
    instance = ticking.shop.instance
    job = dg.job(name="toy_lifecycle", tags={"mlops/model": "toy"})(lambda: None)
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags={"mlops/model": "toy"})
    assert f"Run {run.run_id} of toy is going on" in ticking.tick().skip_message
    instance.report_run_failed(run)
    assert len(ticking.tick()) == 1
