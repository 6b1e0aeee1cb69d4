import sqlite3
from contextlib import contextmanager
from datetime import timedelta

import dagster as dg
import pytest
from sqlalchemy import Engine, event

from mlops_assets.ml.planning import MONITORING, TRAINING, VALIDATION
from mlops_assets.ml.sources import Delivery
from mlops_assets_tests import toy
from mlops_assets_tests.lifecycle.daemon import Daemon
from mlops_assets_tests.s3 import s3_server

RAW = dg.AssetKey(["toy", "raw_data"])
NO_TRAINING = {"training": {"min_partitions": 12}}
ONLY_RAW = ["raw_data"]


@pytest.fixture
def shop(workshop):
    return workshop(**NO_TRAINING)


@pytest.fixture
def daemon(shop):
    return Daemon(shop)


def opened(workshop, *files, settle_seconds=0, **changes):
    """A workshop whose landing folder holds files of other names than the toy's."""
    shop = workshop()
    source = {"uri": str(shop.landing), "files": files, "settle_seconds": settle_seconds}
    shop.changes = {**NO_TRAINING, "source": source, **changes}
    shop.landing.mkdir(parents=True)
    return shop, Daemon(shop)


def span(request):
    start = request.tags.get("dagster/asset_partition_range_start", request.partition_key)
    return start, request.tags.get("dagster/asset_partition_range_end", request.partition_key)


def assets(request):
    return {key.path[-1] for key in request.asset_selection}


def events(shop, partition):
    found = dg.AssetRecordsFilter(asset_key=RAW, asset_partitions=[partition])
    return [record.asset_materialization for record in shop.instance.fetch_materializations(found, limit=20).records]


def failures(result):
    return {
        event.step_key: event.step_failure_data.user_failure_data.description
        for event in result.all_events
        if event.is_step_failure
    }


def test_many_deliveries_at_once_are_one_run_and_then_nothing(shop, daemon):
    for month in toy.MONTHS:
        toy.deliver(shop.landing, month)
    [request] = daemon.look()
    assert span(request) == ("2024-01-01", "2024-06-01")
    assert assets(request) == set(VALIDATION)
    assert request.tags["mlops/reason"] == "new_data"
    assert request.tags["mlops/because"] == "6 partitions, 2024-01-01 to 2024-06-01"
    assert daemon.run(request, ONLY_RAW).success
    assert daemon.look() == []
    assert daemon.said == f"Nothing new among 6 deliveries in {shop.landing}, the newest shop-2024-06.csv."


def test_each_partition_of_a_run_has_its_own_data_version_and_story(shop, daemon):
    for month in toy.MONTHS[:2]:
        toy.deliver(shop.landing, month)
    daemon.settle(ONLY_RAW)
    records = shop.resources["records"].all(Delivery, "toy", "raw_data")
    for partition, delivery in records.items():
        [event, *_] = events(shop, partition)
        assert event.tags["dagster/data_version"] == delivery.version
        [row] = event.metadata["files"].records
        assert row.data["sha256"] == delivery.files[0].sha256
        assert row.data["stored_at"].endswith(delivery.files[0].sha256)
        assert event.metadata["is_correction"].value is False
    assert len({delivery.version for delivery in records.values()}) == 2


def test_the_same_bytes_have_the_same_data_version_and_a_correction_says_what_it_replaces(shop, daemon):
    toy.deliver(shop.landing, "2024-01")
    daemon.settle(ONLY_RAW)
    assert shop.run(["2024-01"], ONLY_RAW).success
    first, again = events(shop, "2024-01-01")
    assert first.tags["dagster/data_version"] == again.tags["dagster/data_version"]
    toy.deliver(shop.landing, "2024-01", toy.rows("2024-01", seed=1))
    [request] = daemon.settle(ONLY_RAW)
    assert request.tags["mlops/reason"] == "corrected_data"
    corrected, *_ = events(shop, "2024-01-01")
    assert corrected.metadata["corrects_version"].value == first.tags["dagster/data_version"]
    old = shop.resources["records"].get(Delivery, "toy", "raw_data", "2024-01-01")
    assert shop.resources["blobs"].exists(old.files[0].sha256)


def test_it_waits_while_a_run_of_the_model_is_going_on(shop, daemon):
    toy.deliver(shop.landing, "2024-01")
    going_on = dg.DagsterRun(job_name="toy_lifecycle", status=dg.DagsterRunStatus.STARTED, tags={"mlops/model": "toy"})
    shop.instance.add_run(going_on)
    assert daemon.look() == []
    assert daemon.said == f"Run {going_on.run_id} of toy is going on; deliveries are looked at when it has ended."
    shop.instance.report_run_canceled(going_on)
    assert len(daemon.look()) == 1


def test_an_unknown_cursor_does_no_harm(shop, daemon):
    toy.deliver(shop.landing, "2024-01")
    daemon.cursor = '{"left by": "another version"}'
    assert len(daemon.settle(ONLY_RAW)) == 1


def test_what_waits_and_what_was_refused_is_said(workshop):
    shop, daemon = opened(workshop, "shop-{partition:%Y-%m}.csv", settle_seconds=3600)
    toy.deliver(shop.landing, "2024-01")
    (shop.landing / "shop-2024-99.csv").touch()
    (shop.landing / "notes.txt").touch()
    assert daemon.look() == []
    assert "Waiting: shop-2024-01.csv: it may still grow: changed less than 3600 s ago." in daemon.said
    assert "Refused: shop-2024-99.csv: '2024-99' is no date of the form %Y-%m." in daemon.said
    assert "Not ours: notes.txt: fits no pattern." in daemon.said
    (shop.landing / "shop-2024-01.csv.done").touch()
    assert len(daemon.look()) == 1


def test_a_delivery_that_vanished_is_named_and_the_others_are_kept_and_asked_for_again(shop, daemon):
    for month in toy.MONTHS[:3]:
        toy.deliver(shop.landing, month)
    [request] = daemon.look()
    (shop.landing / "shop-2024-02.csv").unlink()
    result = daemon.run(request)
    [said] = failures(result).values()
    assert f"1 of 3 deliveries could not be fetched from {shop.landing}; the others are kept." in said
    assert "toy/raw_data[2024-02-01]: nothing is delivered for it among 2 files" in said
    assert sorted(shop.resources["records"].all(Delivery, "toy", "raw_data")) == ["2024-01-01", "2024-03-01"]
    assert [len(events(shop, f"2024-0{month}-01")) for month in (1, 2, 3)] == [1, 0, 1]
    assert [span(each)[0] for each in daemon.settle()] == ["2024-01-01", "2024-03-01"]
    validated = shop.instance.get_materialized_partitions(dg.AssetKey(["toy", "validated_features"]))
    assert validated == {"2024-01-01", "2024-03-01"}
    toy.deliver(shop.landing, "2024-02")
    assert [span(each)[0] for each in daemon.settle()] == ["2024-02-01"]


def test_a_delivery_that_validation_refused_is_not_asked_for_again(shop, daemon):
    toy.deliver(shop.landing, "2024-01", toy.rows("2024-01").drop(columns="price"))
    toy.deliver(shop.landing, "2024-02")
    [request] = daemon.look()
    assert not daemon.run(request).success
    assert [daemon.look() for _ in range(3)] == [[], [], []]
    toy.deliver(shop.landing, "2024-01")
    assert [span(each) for each in daemon.settle()] == [("2024-01-01", "2024-01-01")]


def test_a_run_that_was_killed_is_asked_for_once_more_and_then_left_with_the_reason(shop, daemon):
    toy.deliver(shop.landing, "2024-01")
    for _ in range(2):
        [request] = daemon.look()
        killed = dg.DagsterRun(job_name="toy_lifecycle", tags=request.tags)
        shop.instance.add_run(killed)
        shop.instance.report_run_failed(killed)
    assert daemon.look() == []
    assert "Left alone: 2024-01-01: runs died on it 2 times; materialize it by hand" in daemon.said


def ended(shop, request, how, **tags):
    run = dg.DagsterRun(job_name="toy_lifecycle", tags={**request.tags, **tags})
    shop.instance.add_run(run)
    getattr(shop.instance, f"report_run_{how}")(run)
    return run


def test_a_run_that_a_person_cancelled_is_not_asked_for_again_and_the_reason_is_said(shop, daemon):
    toy.deliver(shop.landing, "2024-01")
    [request] = daemon.look()
    ended(shop, request, "canceled")
    for _ in range(2):
        assert daemon.look() == []
        assert "Left alone: 2024-01-01: its run was cancelled; materialize it by hand or deliver" in daemon.said
    assert shop.run(["2024-01"], VALIDATION).success
    assert daemon.look() == []
    assert "Left alone" not in daemon.said


def test_training_during_an_outage_of_mlflow_is_asked_for_again_alone_ever_later_and_then_the_reason_is_said(workshop):
    shop = workshop()
    for month in toy.MONTHS[:3]:
        toy.deliver(shop.landing, month)
    daemon = Daemon(shop)
    [asked] = daemon.look()
    tracking = shop.resources["tracking"]
    shop.resources["tracking"] = type(tracking)(root=tracking.root, tracking_uri="http://127.0.0.1:9")
    del shop.__dict__["definitions"]
    assert not daemon.run(asked).success
    for minutes in (1, 5, 25):
        daemon.late = timedelta(minutes=minutes, seconds=-20)
        assert daemon.look() == []
        assert daemon.said.startswith("A service did not answer in the last run of toy; the next is at ")
        daemon.late = timedelta(minutes=minutes, seconds=20)
        [asked] = daemon.look()
        assert assets(asked) == set(TRAINING)
        assert not daemon.run(asked).success
    for _ in range(2):
        assert daemon.look() == []
        assert "Left alone: trained_model: a service did not answer in 4 runs; materialize it by hand" in daemon.said
    del shop.__dict__["definitions"]
    shop.resources["tracking"] = tracking
    assert shop.run(assets=TRAINING).success
    assert daemon.look() == []
    assert "Left alone" not in daemon.said


def test_a_run_that_dagster_retries_is_going_on_and_its_retry_is_what_counts(shop, daemon):
    toy.deliver(shop.landing, "2024-01")
    [request] = daemon.look()
    died = ended(shop, request, "failed")
    shop.instance.add_run_tags(died.run_id, {"dagster/will_retry": "true"})
    assert daemon.look() == []
    assert daemon.said.startswith(f"Run {died.run_id} of toy is going on")
    assert daemon.run(request).success
    shop.instance.add_run_tags(died.run_id, {"dagster/auto_retry_run_id": "the run above"})
    assert daemon.look() == []
    assert daemon.said.startswith("Nothing new")


def test_what_was_refused_is_logged_when_something_else_is_asked_for(shop, daemon):
    toy.deliver(shop.landing, "2024-01")
    (shop.landing / "shop-2024-99.csv").touch()
    assert len(daemon.look()) == 1
    assert "Refused: shop-2024-99.csv: '2024-99' is no date of the form %Y-%m." in daemon.logged


def test_training_waits_for_gaps_to_be_filled_and_is_then_asked_for_once(workshop):
    shop = workshop()
    daemon = Daemon(shop)
    for month in ("2024-01", "2024-02", "2024-04"):
        toy.deliver(shop.landing, month)
    asked = daemon.look()
    assert [span(each) for each in asked] == [("2024-01-01", "2024-02-01"), ("2024-04-01", "2024-04-01")]
    for request in asked:
        assert assets(request) == set(VALIDATION)
        assert daemon.run(request).success
    [training] = daemon.look()
    assert assets(training) == set(TRAINING)
    assert training.partition_key is None
    assert daemon.run(training).success
    assert daemon.look() == []
    toy.deliver(shop.landing, "2024-05")
    [request] = daemon.look()
    assert assets(request) == {*VALIDATION, *MONITORING, *TRAINING}


def test_batches_become_partitions_and_odd_names_are_refused_by_name(workshop):
    shop, daemon = opened(workshop, "b-{partition}.csv", partitions={"every": "batch"})
    for number, name in enumerate(["north", "south", "a b", "..", "münchen"]):
        toy.rows("2024-01", seed=number).to_csv(shop.landing / f"b-{name}.csv", index=False)
    [request] = daemon.look()
    assert span(request) == ("north", "south")
    assert daemon.run(request, ONLY_RAW).success
    assert shop.instance.get_dynamic_partitions("toy_batches") == ["north", "south"]
    toy.rows("2024-01", seed=9).to_csv(shop.landing / "b-east.csv", index=False)
    assert [span(each) for each in daemon.settle(ONLY_RAW)] == [("east", "east")]
    assert daemon.look() == []
    assert "Refused: b-...csv: '..' cannot name a batch" in daemon.said
    assert "b-a b.csv: 'a b' cannot name a batch" in daemon.said
    assert "b-münchen.csv: 'münchen' cannot name a batch" in daemon.said
    written = {path.relative_to(shop.home).parts[0] for path in shop.home.rglob("*")}
    assert written <= {"landing", "raw", "records", "cache", "mlflow.db"}


def test_with_a_window_the_newest_batches_by_time_are_to_be_learned_from_whatever_their_names(workshop):
    training = {"min_partitions": 3, "window": 3}
    shop, daemon = opened(workshop, "b-{partition}.csv", partitions={"every": "batch"}, training=training)
    for month, name in zip(toy.MONTHS[:4], ("z", "a", "b", "c"), strict=False):
        toy.rows(month).to_csv(shop.landing / f"b-{name}.csv", index=False)
    [request] = daemon.look()
    assert daemon.run(request).success
    assert daemon.look() == []
    toy.rows("2023-12").to_csv(shop.landing / "b-zz.csv", index=False)
    [older] = daemon.look()
    assert daemon.run(older, VALIDATION).success
    assert daemon.look() == []


def test_one_file_split_by_time_is_one_run_and_more_rows_are_a_run_for_theirs(workshop):
    shop, daemon = opened(workshop, "*.csv")
    every = [toy.rows(month).to_csv(index=False, header=month == "2024-01") for month in toy.MONTHS]
    (shop.landing / "hour.csv").write_text("".join(every[:3]))
    assert [span(each) for each in daemon.settle(ONLY_RAW)] == [("2024-01-01", "2024-03-01")]
    (shop.landing / "hour.csv").write_text("".join(every))
    assert [span(each) for each in daemon.settle(ONLY_RAW)] == [("2024-04-01", "2024-06-01")]
    assert len(shop.instance.get_materialized_partitions(RAW)) == 6


def test_a_database_is_a_source_whose_new_and_corrected_windows_are_asked_for_once(workshop, tmp_path, monkeypatch):
    path = tmp_path / "shop.db"
    monkeypatch.setenv("SHOP_DB", f"sqlite:///{path}")
    query = "SELECT ts, kind, price, wind, sales FROM sales WHERE ts >= :start AND ts < :end"
    declared = {"url_env": "SHOP_DB", "query": query, "lookback": 10}
    ended = {"every": "monthly", "start": "2024-01-01", "end": "2024-07-01"}
    shop = workshop(**NO_TRAINING, source=declared, partitions=ended)
    daemon = Daemon(shop)
    with sqlite3.connect(path) as connection:
        for month in toy.MONTHS[:3]:
            toy.rows(month).to_sql("sales", connection, if_exists="append", index=False)
        assert [span(each) for each in daemon.settle(ONLY_RAW)] == [("2024-01-01", "2024-03-01")]
        connection.execute("UPDATE sales SET sales = sales + 1 WHERE ts < '2024-02-01'")
        toy.rows("2024-04").to_sql("sales", connection, if_exists="append", index=False)
        connection.commit()
        assert [span(each)[0] for each in daemon.settle(ONLY_RAW)] == ["2024-01-01", "2024-04-01"]
        assert daemon.look() == []
    connection.close()
    assert daemon.said == "Nothing new among 4 deliveries in the database in SHOP_DB, the newest 2024-04-01."


def test_an_object_store_is_home_and_source(workshop, monkeypatch):
    import boto3

    with s3_server(monkeypatch, "shop") as bucket:
        source = {"uri": f"{bucket}/landing", "files": ["shop-{partition:%Y-%m}.csv"], "settle_seconds": 0}
        shop = workshop(**NO_TRAINING, source=source)
        for name in ("records", "blobs", "deliveries", "tables"):
            shop.resources[name] = type(shop.resources[name])(root=f"{bucket}/home")
        shop.resources["io_manager"] = shop.resources["records"]
        for month in toy.MONTHS[:2]:
            content = toy.rows(month).to_csv(index=False)
            boto3.client("s3").put_object(Bucket="shop", Key=f"landing/shop-{month}.csv", Body=content)
        daemon = Daemon(shop)
        assert [span(each) for each in daemon.settle([*VALIDATION])] == [("2024-01-01", "2024-02-01")]
        assert daemon.look() == []
        assert f"2 deliveries in {bucket}/landing" in daemon.said


def test_a_look_at_which_nothing_has_changed_says_the_same_in_one_query(shop, daemon):
    toy.deliver(shop.landing, "2024-01")
    assert len(daemon.settle()) == 1
    assert daemon.look() == []
    said = daemon.said
    with recorded_queries() as queries:
        assert daemon.look() == []
    assert daemon.said == said
    assert any("max(event_logs.id)" in query for query in queries)
    assert [query for query in queries if "FROM runs" in query or "asset_" in query] == []
    for change in (
        lambda: toy.deliver(shop.landing, "2024-03"),
        lambda: toy.deliver(shop.landing, "2024-01", toy.rows("2024-01", seed=1)),
        lambda: shop.instance.wipe_assets([dg.AssetKey(["toy", "raw_data"])]),
    ):
        change()
        assert len(daemon.settle()) >= 1


@contextmanager
def recorded_queries():
    """The statements that reach any database."""
    queries = []

    def note(connection, cursor, statement, parameters, context, executemany):
        queries.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield queries
    finally:
        event.remove(Engine, "before_cursor_execute", note)
