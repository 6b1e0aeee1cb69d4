"""Row 35: personal data never reach a report, a record, a message or a log, however few their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from pandera.typing import Series

from mlops_assets.lifecycle.sensors.alerting import deliver_alerts, raise_alerts
from mlops_assets.ml.golden import Golden
from mlops_assets.ml.labels import LabelledPartition
from mlops_assets.ml.monitoring import DriftReport
from mlops_assets.ml.performance import PerformanceReport
from mlops_assets.ml.retraining import RetrainingDecision
from mlops_assets.ml.training import Candidate
from mlops_assets.resources.alerts import Alerts
from mlops_assets_tests import late, toy
from mlops_assets_tests.sinks import http_sink

CANARIES = ("canary-iban-4711", "canary-town-nowhere", "canary-name-ada", "canary-town-elsewhere")
TRAINED = ("trained_model", "evaluation_report", "registered_version", "champion")
DATA = {"raw", "tables", "landing", "labels"}


class Contract(toy.Contract):
    """The shop's rows with who bought, and where."""

    customer: Series[pd.CategoricalDtype] = pa.Field(str_length={"max_value": 40}, metadata={"pii": "direct"})
    town: Series[pd.CategoricalDtype] = pa.Field(metadata={"pii": "quasi"})


def rows(month: str, **changes: Any) -> pd.DataFrame:
    frame = toy.rows(month, **changes)
    place = np.arange(len(frame)) % 2
    customer = np.where(place == 0, "canary-name-ada", "canary-iban-4711")
    town = np.where(place == 0, "canary-town-nowhere", "canary-town-elsewhere")
    return frame.assign(customer=customer, town=town)


def broken(month: str) -> pd.DataFrame:
    frame = rows(month)
    frame.loc[:4, "customer"] = "canary-iban-4711" + "x" * 40
    frame.loc[2:6, "price"] = -1
    return frame


def hits(content: bytes) -> int:
    return sum(content.count(canary.encode()) for canary in CANARIES)


def naive_page(frame: pd.DataFrame) -> bytes:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    side = Dataset.from_pandas(frame, data_definition=DataDefinition(categorical_columns=["customer", "town"]))
    pictures = [ValueDrift(column=name, method="psi") for name in ("customer", "town")]
    return Report(pictures).run(side, side).get_html_str(as_iframe=False).encode()


def written(home: Path) -> dict[str, bytes]:
    """Every file that Dagster, MLflow and we wrote, but the stores of the data themselves and the models."""
    files = [path for path in home.parent.rglob("*") if path.is_file()]
    return {
        str(path.relative_to(home.parent)): path.read_bytes()
        for path in files
        if not (path.is_relative_to(home) and path.relative_to(home).parts[0] in DATA) and path.suffix != ".skops"
    }


@pytest.mark.fault(35)
def test_no_personal_value_is_found_in_anything_but_the_data_and_the_models(workshop, record_figure, capfd):
    declared = {
        "contract": f"{__name__}.Contract",
        "exclude": ["customer"],
        "drift": {"report_rows": 200},
        "evaluation": {"metric": "mae", "slices": ["kind", "town"], "replicates": 100},
    }
    shop = workshop(**declared)
    for month in ("2024-01", "2024-02", "2024-03"):
        toy.deliver(shop.landing, month, rows(month))
    toy.deliver(shop.landing, "2024-04", broken("2024-04"))
    prepared = ("raw_data", "quarantined_rows", "validated_features")
    assert shop.run(["2024-01", "2024-02", "2024-03"], (*prepared, *TRAINED)).success
    assert shop.run(["2024-04"], (*prepared, "drift_report", "predictions")).success

    report = shop.resources["records"].get(DriftReport, "toy", "drift_report", "2024-04-01")
    assert report.left_out["town"] == "personal data"
    candidate = shop.resources["records"].get(Candidate, "toy", "trained_model")
    assert "town" in candidate.inputs
    blobs = shop.resources["blobs"]
    kept = {name: blobs.read(getattr(candidate, name)) for name in ("reference", "reference_sample")}
    golden = Golden.model_validate_json(blobs.read(candidate.golden))
    with blobs.open(golden.rows) as stream:
        kept["golden rows"] = pd.read_parquet(stream).to_csv().encode()
    assert b"withheld" in kept["golden rows"]
    output = capfd.readouterr()
    seen = {**written(shop.home), **kept, "output": (output.out + output.err).encode()}
    found = {name: hits(content) for name, content in seen.items() if hits(content)}
    unguarded = hits(naive_page(rows("2024-04")))
    record_figure(canaries_found=sum(found.values()), files=len(seen), canaries_in_an_unguarded_report=unguarded)
    pages = ("drift/2024-04-01-v1.html", "card/v1.html", "release/v1.html", "model_card/v1.json")
    assert [page for page in pages if not any(name.endswith(page) for name in seen)] == []
    assert unguarded > 0
    assert found == {}


class LateContract(late.Contract):
    """The shop's rows, each known by its customer."""

    sale: Series[str] = pa.Field(metadata={"pii": "direct"})


def personal(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows or labels whose key is a personal value."""
    return frame.assign(sale=[f"canary-name-ada-{number}" for number in frame["sale"]])


def wrong_labels(month: str) -> pd.DataFrame:
    """Labels of rows that nobody knows, twice with different values, that are no numbers, and far from the truth."""
    frame = late.labels(month).astype({"sales": object}).assign(sales=lambda each: each["sales"] * 5)
    stranger = frame.head(4).assign(sale=range(900, 904))
    other = frame.iloc[4:8].assign(sales=1.0)
    frame.loc[8:10, "sales"] = "canary-iban-4711"
    return personal(pd.concat([frame, stranger, other]))


def told(shop: toy.Workshop, monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], bytes]:
    """The kinds of alerts that were raised, and all that a webhook was told."""
    alerts = Alerts(root=str(shop.home), ui="http://127.0.0.1:3000")
    with http_sink() as sink:
        monkeypatch.setenv("MLOPS_ALERTS", f"json://127.0.0.1:{sink.port}/hook")
        for make in (raise_alerts, deliver_alerts):
            sensor = make([shop.spec])
            with dg.build_sensor_context(
                instance=shop.instance, resources={"alerts": alerts}, sensor_name=sensor.name
            ) as context:
                sensor.evaluate_tick(context)
        return {known.alert.kind for known in alerts.open()}, repr(sink.taken).encode()


@pytest.mark.fault(35)
def test_no_personal_key_of_late_labels_is_found_in_reports_decisions_or_alerts(
    workshop, tmp_path, record_figure, capfd, monkeypatch
):
    declared = {"contract": f"{__name__}.LateContract", "retraining": {"policy": "gain"}}
    shop = late.open_shop(workshop, tmp_path, **declared)
    rows, joined = ("raw_data", "quarantined_rows", "validated_features"), ("raw_labels", "labels")
    months, last = list(toy.MONTHS[:3]), toy.MONTHS[3]
    for month in (*months, last):
        toy.deliver(shop.landing, month, personal(late.rows(month).drop(columns="sales")))
    for month in months:
        late.deliver_labels(shop, month, personal(late.labels(month)))
    assert shop.run(months, (*rows, *joined, *TRAINED)).success
    late.deliver_labels(shop, last, wrong_labels(last))
    watched = ("drift_report", "predictions", "performance_report", "retraining_decision")
    assert shop.run([last], (*rows, *joined, *watched)).success
    late.deliver_labels(shop, last, wrong_labels(last).assign(sales="canary-iban-4711"))
    assert not shop.run([last], joined).success

    records = shop.resources["records"]
    labelled = records.get(LabelledPartition, "toy", "labels", f"{last}-01")
    assert (labelled.unknown, labelled.conflicting, labelled.broken) == (4, 4, 3)
    assert records.get(PerformanceReport, "toy", "performance_report", f"{last}-01").measured is not None
    assert records.get(RetrainingDecision, "toy", "retraining_decision") is not None
    kinds, message = told(shop, monkeypatch)
    assert kinds >= {"failed_run", "failed_check"}
    assert b"toy" in message
    output = capfd.readouterr()
    seen = {**written(shop.home), "output": (output.out + output.err).encode(), "told": message}
    found = {name: hits(content) for name, content in seen.items() if hits(content)}
    record_figure(canaries_found=sum(found.values()), files=len(seen), late_labels=True)
    assert found == {}
