"""A model whose labels come late, from its first deliveries on, by its two sensors as the daemon ticks them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field

import dagster as dg
import pytest

from mlops_assets.lifecycle.sensors.new_labels import Memories
from mlops_assets.ml.labels import LabelledPartition
from mlops_assets.ml.performance import PerformanceReport
from mlops_assets.ml.training import Candidate
from mlops_assets_tests import late, toy
from mlops_assets_tests.homes import instance_at
from mlops_assets_tests.lifecycle.daemon import Daemon
from mlops_assets_tests.toy import Workshop

MAY = "2024-05-01"


@dataclass
class Life:
    """What was asked for and what came of it, step by step."""

    shop: Workshop
    data: Daemon
    labels: Daemon
    asked: dict[str, list[dg.RunRequest]] = field(default_factory=dict)
    candidates: dict[str, Candidate | None] = field(default_factory=dict)
    reports: dict[str, PerformanceReport | None] = field(default_factory=dict)
    labelled: dict[str, dict[str, LabelledPartition]] = field(default_factory=dict)
    said: dict[str, str] = field(default_factory=dict)

    def settle(self, step: str) -> None:
        """Let both sensors look and run until nothing is asked for, and keep what there is then."""
        asked = []
        for _ in range(3):
            more = [*self.data.settle(), *self.labels.settle()]
            asked += more
            if not more:
                break
        records = self.shop.resources["records"]
        self.asked[step] = asked
        self.said[step] = self.labels.said
        self.candidates[step] = records.get(Candidate, "toy", "trained_model")
        self.reports[step] = records.get(PerformanceReport, "toy", "performance_report", MAY)
        self.labelled[step] = records.all(LabelledPartition, "toy", "labels")

    def reasons(self, step: str) -> list[str]:
        return [request.tags["mlops/reason"] for request in self.asked[step]]


@pytest.fixture(scope="module")
def life(tmp_path_factory) -> Iterator[Life]:
    folder = tmp_path_factory.mktemp("late")
    with instance_at(folder) as instance:
        shop = Workshop(folder / "home", instance, late.declared(folder / "home" / "labels", known="known"))
        found = Life(shop, Daemon(shop), Daemon(shop, sensor="new_labels"))
        live(found)
        yield found


def live(life: Life) -> None:
    shop = life.shop
    (shop.home / "labels").mkdir(parents=True)
    late.deliver_rows(shop, *toy.MONTHS[:4])
    life.settle("rows")
    for month in toy.MONTHS[:3]:
        late.deliver_labels(shop, month)
    life.settle("labels")
    late.deliver_rows(shop, "2024-05")
    life.settle("may")
    pieces = late.pieces(late.labels("2024-05"))
    for number, piece in enumerate(pieces):
        late.deliver_labels(shop, "2024-05", piece, f"piece{number}")
        life.settle(f"piece {number}")
    corrected = pieces[0].assign(sales=pieces[0]["sales"] + 100)
    late.deliver_labels(shop, "2024-05", corrected, "piece0")
    life.settle("correction")
    late.deliver_labels(shop, "2024-06")
    life.settle("labels before rows")
    late.deliver_rows(shop, "2024-06")
    life.settle("june")


def test_rows_without_labels_are_validated_and_nothing_is_trained(life):
    assert life.reasons("rows") == ["new_data"]
    assert life.candidates["rows"] is None
    assert {key: each.labelled for key, each in life.labelled["rows"].items()} == {
        f"{month}-01": 0 for month in toy.MONTHS[:4]
    }


def test_labels_of_neighbouring_months_are_one_run_and_the_model_is_trained_when_enough_have_matured(life):
    assert life.reasons("labels") == ["new_labels", "training"]
    assert [key.path[-1] for key in life.asked["labels"][0].asset_selection] == ["raw_labels", "labels"]
    manifest = life.candidates["labels"].manifest
    assert manifest.fitted_partitions == ("2024-01-01", "2024-02-01")
    assert manifest.holdout_partitions == ("2024-03-01",)
    assert set(manifest.labels) == set(manifest.contents) == {"2024-01-01", "2024-02-01", "2024-03-01"}


def test_a_new_month_is_predicted_and_its_report_says_that_nothing_can_be_measured_yet(life):
    assert life.reasons("may") == ["new_data"]
    report = life.reports["may"]
    assert (report.rows, report.labelled, report.mature, report.measured) == (300, 0, False, None)
    assert "0 of 300 rows have a label: nothing can be measured yet" in report.sentence


@pytest.mark.parametrize(("step", "labelled", "mature"), [(0, 100, False), (1, 200, False), (2, 300, True)])
def test_each_piece_of_labels_is_one_run_and_only_the_last_makes_the_figure_mature(life, step, labelled, mature):
    assert life.reasons(f"piece {step}").count("new_labels") == 1
    chosen = [key.path[-1] for key in life.asked[f"piece {step}"][0].asset_selection]
    assert chosen == ["raw_labels", "labels", "performance_report", "retraining_decision"]
    report = life.reports[f"piece {step}"]
    assert (report.labelled, report.mature) == (labelled, mature)
    assert ("not mature" in report.sentence) != mature
    assert report.measured is not None
    assert report.arrival == ((240.0, pytest.approx(labelled / 300)),)


def test_a_figure_on_late_labels_is_the_one_that_the_same_labels_in_the_rows_would_give(life):
    report, candidate = life.reports["piece 2"], life.candidates["labels"]
    tables = life.shop.resources["tables"]
    part = life.shop.resources["records"].all
    from mlops_assets.ml.validation import ValidatedPartition

    rows = tables.read("toy", "validated_features", part(ValidatedPartition, "toy", "validated_features")[MAY].files)
    said = life.shop.resources["tracking"].load(candidate).predict(rows[list(candidate.inputs)])
    truth = late.labels("2024-05").set_index("sale")["sales"].loc[rows["sale"]].to_numpy()
    assert report.measured.value == pytest.approx(abs(said - truth).mean())
    assert "sales" not in rows


def test_the_model_learns_of_a_month_when_its_labels_have_matured_and_not_before(life):
    for step in ("may", "piece 0", "piece 1"):
        assert MAY not in life.candidates[step].manifest.contents
        assert "training" not in life.reasons(step)
    assert life.reasons("piece 2") == ["new_labels", "training"]
    manifest = life.candidates["piece 2"].manifest
    assert manifest.holdout_partitions == (MAY,)
    assert "2024-04-01" not in manifest.contents


def test_a_correction_of_labels_is_one_run_and_changes_the_figure_and_the_labels(life):
    assert life.reasons("correction").count("new_labels") == 1
    before, after = life.reports["piece 2"], life.reports["correction"]
    assert after.measured.value > before.measured.value + 20
    assert after.labels != before.labels
    assert life.labelled["correction"][MAY].content != life.labelled["piece 2"][MAY].content


def test_what_learned_from_labels_that_are_corrected_is_trained_anew_once(life):
    assert life.reasons("correction") == ["new_labels", "training"]
    before, after = life.candidates["piece 2"].manifest, life.candidates["correction"].manifest
    assert (after.fitted_partitions, after.holdout_partitions) == (before.fitted_partitions, before.holdout_partitions)
    assert after.labels[MAY] != before.labels[MAY]


def test_labels_before_their_rows_are_kept_and_join_them_when_they_come(life):
    [request] = life.asked["labels before rows"]
    assert [key.path[-1] for key in request.asset_selection] == ["raw_labels"]
    assert "2024-06-01" not in life.labelled["labels before rows"]
    assert life.reasons("june")[0] == "new_data"
    assert life.labelled["june"]["2024-06-01"].labelled == 300
    june = life.shop.resources["records"].get(PerformanceReport, "toy", "performance_report", "2024-06-01")
    assert (june.labelled, june.mature) == (300, True)


def test_looking_again_asks_for_nothing_and_says_what_was_looked_at(life):
    assert life.labels.look() == []
    assert life.labels.said.startswith("toy: Nothing new among 7 deliveries in ")


def test_what_was_predicted_says_by_which_version_and_is_not_silently_replaced(life):
    shop = life.shop
    from mlops_assets.ml.performance import PredictedPartition

    before = shop.resources["records"].get(PredictedPartition, "toy", "predictions", MAY)
    assert (before.version, before.replaces) == (1, None)


def test_a_source_that_is_down_is_said_and_stops_nothing_else(workshop, tmp_path):
    shop = late.open_shop(workshop, tmp_path)
    late.deliver_rows(shop, "2024-01")
    down, data = Daemon(shop, sensor="new_labels"), Daemon(shop)
    assert down.look() == []
    assert "the source of labels cannot be looked into" in down.said
    assert "cannot be listed" in down.said
    assert len(data.look()) == 1


def test_a_model_whose_run_goes_on_waits(workshop, tmp_path):
    shop = late.open_shop(workshop, tmp_path)
    late.deliver_labels(shop, "2024-01")
    run = shop.instance.create_run_for_job(
        dg.job(name="toy_lifecycle")(lambda: None), status=dg.DagsterRunStatus.STARTED, tags={"mlops/model": "toy"}
    )
    labels = Daemon(shop, sensor="new_labels")
    assert labels.look() == []
    assert f"run {run.run_id} is going on" in labels.said
    shop.instance.report_run_failed(run)
    assert len(labels.look()) == 1


def test_a_run_that_died_is_asked_for_once_more(workshop, tmp_path):
    shop = late.open_shop(workshop, tmp_path)
    late.deliver_labels(shop, "2024-01")
    labels = Daemon(shop, sensor="new_labels")
    [first] = labels.look()
    shop.instance.add_run(dg.DagsterRun(job_name="toy_lifecycle", tags=first.tags, status=dg.DagsterRunStatus.FAILURE))
    [second] = labels.look()
    assert second.run_key != first.run_key
    shop.instance.add_run(dg.DagsterRun(job_name="toy_lifecycle", tags=second.tags, status=dg.DagsterRunStatus.FAILURE))
    assert labels.look() == []
    assert "runs died on it 2 times" in labels.said


def test_a_source_that_is_as_it_was_costs_no_question_and_a_change_is_seen_all_the_same(workshop, tmp_path):
    shop = late.open_shop(workshop, tmp_path)
    late.deliver_labels(shop, "2024-01")
    labels = Daemon(shop, sensor="new_labels")
    assert len(labels.settle()) == 1
    assert Memories.model_validate_json(labels.cursor).settled.keys() == {"toy"}
    assert labels.look() == []
    late.deliver_labels(shop, "2024-01", late.labels("2024-01").head(7), "more")
    assert len(labels.look()) == 1
    assert Memories.model_validate_json(labels.cursor).settled == {}


def test_labels_of_a_batch_wait_until_its_rows_have_made_it_known(workshop, tmp_path):
    def source(folder):
        return {"uri": str(folder), "files": ["{partition}.csv"], "settle_seconds": 0}

    landing, folder = tmp_path / "home" / "landing", tmp_path / "home" / "labels"
    changes = late.declared(folder, source=source(folder))
    shop = workshop(**changes, source=source(landing), partitions={"every": "batch"})
    for place, frame in ((landing, late.rows("2024-01").drop(columns="sales")), (folder, late.labels("2024-01"))):
        place.mkdir(parents=True)
        frame.to_csv(place / "first.csv", index=False)
    labels = Daemon(shop, sensor="new_labels")
    assert labels.settle() == []
    assert "Waiting: first: its rows have not come; it is fetched when they have." in labels.said
    assert len(Daemon(shop).settle()) == 1
    assert [request.partition_key for request in labels.settle()] == ["first"]
    assert shop.resources["records"].get(LabelledPartition, "toy", "labels", "first").labelled == 300


def test_without_late_labels_the_sensor_has_nothing_to_do(workshop):
    labels = Daemon(workshop(), sensor="new_labels")
    assert labels.look() == []
    assert labels.said == "No model declares a source of labels."


def test_labels_in_a_database_are_read_window_by_window(workshop, tmp_path, monkeypatch):
    path = tmp_path / "labels.db"
    monkeypatch.setenv("LABELS_URL", f"sqlite:///{path}")
    with sqlite3.connect(path) as database:
        late.labels("2024-01").to_sql("sold", database, index=False)
    query = "SELECT ts, sale, sales FROM sold WHERE ts >= :start AND ts < :end"
    source = {"url_env": "LABELS_URL", "query": query}
    shop = late.open_shop(workshop, tmp_path, **late.declared(tmp_path, source=source))
    late.deliver_rows(shop, "2024-01")
    Daemon(shop).settle()
    [request] = Daemon(shop, sensor="new_labels").settle()
    assert request.partition_key == "2024-01-01"
    found = shop.resources["records"].get(LabelledPartition, "toy", "labels", "2024-01-01")
    assert (found.labelled, found.unknown) == (300, 0)
