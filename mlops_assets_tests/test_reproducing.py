"""`mlops-assets reproduce`: a version is built anew from stored bytes; what is to blame for another one is named."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import pytest
from typer.testing import CliRunner

from mlops_assets import settings
from mlops_assets.cli import app
from mlops_assets.lifecycle.common import DELIVERIES
from mlops_assets.lifecycle.dossier import CARD
from mlops_assets.lifecycle.rebuilding import rebuild
from mlops_assets.lifecycle.reproduction import Builder, NoVersionError, in_clean_process
from mlops_assets.ml.artifacts import load_model, trusted_types
from mlops_assets.ml.card import Card
from mlops_assets.ml.ledger import Link
from mlops_assets.ml.reproduction import Order, Rebuilt, Reproduction
from mlops_assets.ml.sources import Delivery
from mlops_assets.ml.training import Candidate
from mlops_assets.reproducing import reproduce
from mlops_assets.resources.cleanroom import Room, Source
from mlops_assets.resources.registry import CANDIDATE, RECORD, REPRODUCED
from mlops_assets_tests import late, toy
from mlops_assets_tests.homes import instance_at
from mlops_assets_tests.lifecycle.stages import failure
from mlops_assets_tests.toy import Workshop

MONTHS = toy.MONTHS[:3]
PREPARED = ("raw_data", "quarantined_rows", "validated_features")
TRAINED = ("trained_model", "evaluation_report", "registered_version", "champion")
FOREST = "sklearn.ensemble.RandomForestRegressor"
CONTRACT = """
import pandas as pd
import pandera.pandas as pa
from pandera.typing import Series

from shopcode.limits import MOST


class Contract(pa.DataFrameModel):
    event_time: Series[pd.DatetimeTZDtype] = pa.Field(dtype_kwargs={"unit": "us", "tz": "UTC"})
    kind: Series[pd.CategoricalDtype] = pa.Field(isin=["a", "b", "c"])
    price: Series[float] = pa.Field(ge=0, le=MOST)
    wind: Series[float] = pa.Field(nullable=True, ge=-50, le=50)
    sales: Series[float] = pa.Field(ge=0)

    class Config:
        strict = True
        coerce = True


def busy(rows):
    return rows["event_time"].dt.hour.between(9, 17).astype(float).to_frame("busy")
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Iterator[Workshop]:
    """Version 1, learned from two months and judged on a third, which was corrected since. Its rules are a module."""
    folder = tmp_path_factory.mktemp("reproduced")
    (folder / "code" / "shopcode").mkdir(parents=True)
    (folder / "code" / "shopcode" / "rules.py").write_text(CONTRACT)
    (folder / "code" / "shopcode" / "limits.py").write_text("MOST = 100\n")
    forest = {"path": FOREST, "params": {"n_estimators": 5, "max_depth": 4}}
    changes = {
        "contract": "shopcode.rules.Contract",
        "features": [{"path": "shopcode.rules.busy"}],
        "estimator": forest,
        "gates": [],
    }
    with instance_at(folder) as instance, pytest.MonkeyPatch.context() as patch:
        for setting in (settings.LEDGER, settings.LEDGER_ANCHORS, settings.TRACKING_URI):
            patch.delenv(setting.name, raising=False)
        patch.setenv(settings.HOME.name, str(folder / "home"))
        patch.setenv("COLUMNS", "200")
        patch.syspath_prepend(str(folder / "code"))
        opened = Workshop(folder / "home", instance, changes)
        for month in MONTHS:
            toy.deliver(opened.landing, month)
        result = opened.run(MONTHS, (*PREPARED, *TRAINED))
        assert result.success, failure(result)
        corrected = toy.rows(MONTHS[2])
        toy.deliver(opened.landing, MONTHS[2], corrected.assign(price=corrected["price"] + 1))
        assert opened.run(MONTHS[2:], PREPARED).success
        yield opened


def here(room: Room, order: Order, source: Source, threads: int | None, python: str | None) -> Rebuilt:
    """The same work in this process: a clean one is tried where the process is what matters."""
    return rebuild(order)


def never(room: Room, order: Order, source: Source, threads: int | None, python: str | None) -> Rebuilt:
    raise AssertionError("it was built from what is not as it was stored")


def type_in(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["reproduce", *words])
    return result.exit_code, result.output


def candidate(shop) -> Candidate:
    registry = shop.resources["registry"]
    return registry.candidate(registry.version("toy", 1))


def forge(shop, worse: float = 1.0, spec: Mapping[str, Any] | None = None, **changes: Any) -> int:
    """A further version, as it would be had it been made otherwise, with a report whose errors are so much larger."""
    before, card = candidate(shop), shop.resources["records"].get(Card, "toy", CARD, "v1")
    said = {"spec": {**before.manifest.spec, **(spec or {})}}
    said |= {name: changes.pop(name) for name in ("environment", "lock") if name in changes}
    manifest = before.manifest.model_copy(update=said)
    other = before.model_copy(update={"manifest": manifest, **changes})
    number = shop.resources["registry"].register(other).number
    told = {name: each.model_copy(update={"value": each.value * worse}) for name, each in card.report.metrics.items()}
    report = card.report.model_copy(update={"candidate": other.model_sha256, "metrics": told})
    shown = card.model_copy(update={"version": number, "candidate": other, "report": report})
    shop.resources["records"].put("toy", CARD, shown, f"v{number}")
    return number


def environment_of(of: Candidate) -> dict[str, str]:
    return of.manifest.environment


def stamps(shop) -> list[Link]:
    return [link for link in shop.resources["ledger"].links("toy") if link.entry.kind == "reproduced"]


def differs(shop, version: int = 1, build: Builder = here) -> Reproduction:
    """What is found of a version that is different, which gives no stamp."""
    before = stamps(shop)
    found = reproduce("toy", version, build=build)
    assert (found.verdict, found.stamp, stamps(shop)) == ("different", None, before)
    assert REPRODUCED not in shop.resources["registry"].version("toy", version).tags or version == 1
    return found


@contextmanager
def changed(path: Path, content: bytes | None = None) -> Iterator[None]:
    """One bit flipped in the middle of a file, or other content, until the block ends."""
    sound = path.read_bytes()
    flipped = bytearray(sound)
    flipped[len(flipped) // 2] ^= 1
    path.write_bytes(bytes(flipped) if content is None else content)
    try:
        yield
    finally:
        path.write_bytes(sound)


@contextmanager
def gone(path: Path) -> Iterator[None]:
    away = path.with_name(f"{path.name}.away")
    path.rename(away)
    try:
        yield
    finally:
        away.rename(path)


def raw(shop, sha256: str) -> Path:
    return shop.home / "raw" / sha256[:2] / sha256


def bytes_of(shop) -> Path:
    """The raw bytes of January."""
    [file] = shop.resources["records"].get(Delivery, "toy", "raw_data", "2024-01-01").files
    return raw(shop, file.sha256)


def rules(shop) -> Path:
    """The model's own module."""
    return shop.home.parent / "code" / "shopcode" / "rules.py"


def content(home: Path) -> dict[str, str]:
    """Everything in a home but what a stamp may change."""
    stamped = ("ledger", "ledger.db", "mlflow.db", "reports", "locks")
    files = (path for path in home.rglob("*") if path.is_file() and path.relative_to(home).parts[0] not in stamped)
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def rebuilt(shop) -> Reproduction:
    """What is found where neither the source nor the environment is any more what it was."""
    before = content(shop.home)
    with pytest.MonkeyPatch.context() as patch, changed(rules(shop), CONTRACT.replace("17", "12").encode()):
        for name in ("PYTHONPATH", "HOME", "DAGSTER_HOME"):
            patch.setenv(name, "/nowhere")
        patch.setattr("tempfile.tempdir", None)
        patch.setenv("TMPDIR", str(shop.home.parent))
        status, said = type_in("toy", "1", "--json")
    assert status == 0
    assert content(shop.home) == before
    return Reproduction.model_validate_json(said)


def test_a_clean_process_builds_the_same_bytes_and_the_version_is_stamped_once(shop, rebuilt):
    found, said = rebuilt, []
    assert (found.verdict, found.causes) == ("equal digest", ())
    assert (found.found, found.code) == (candidate(shop).model_sha256, candidate(shop).manifest.code)
    assert all(then == pytest.approx(now, rel=1e-12) for then, now in found.metrics.values())
    assert {"mae", "rmse"} <= set(found.metrics)
    [link] = stamps(shop)
    assert link.sequence == found.stamp
    assert link.entry.evidence["model"] == link.entry.evidence["rebuilt"] == found.found
    assert shop.resources["registry"].version("toy", 1).tags[REPRODUCED].startswith("equal digest, 2")
    again = reproduce("toy", 1, build=here, say=said.append, spec=shop.spec)
    assert (again.verdict, again.stamp, len(stamps(shop))) == ("equal digest", found.stamp, 1)
    assert (again.notes, said) == ((), [])
    assert "reproduced" in (shop.home / "reports/toy/card/v1.html").read_text()
    shown = CliRunner().invoke(app, ["ledger", "toy"]).output
    assert "v1 reproduced" in shown
    assert "built anew with an equal digest" in " ".join(shown.split())


def test_what_was_changed_since_is_built_by_the_source_that_was_kept(shop, rebuilt):
    assert rebuilt.code == candidate(shop).manifest.code
    assert "The source that it was trained with was run" in rebuilt.notes[0]


@pytest.mark.parametrize(
    ("old", "new", "without", "why", "suspects"),
    [
        ("17", "12", gone, "is gone", ["code"]),
        ("le=MOST", "le=20", changed, "was changed", ["code", "building"]),
    ],
)
def test_changed_code_is_named_where_the_source_is_not_kept(shop, old, new, without, why, suspects):
    archive = shop.home / "code" / f"{candidate(shop).manifest.code}.zip"
    with changed(rules(shop), CONTRACT.replace(old, new).encode()), without(archive):
        found = differs(shop, build=in_clean_process)
    assert [cause.suspect for cause in found.causes] == suspects
    assert why in found.causes[0].says
    assert str(archive) in found.causes[0].says
    assert found.sentence.startswith("toy v1 is different: code: ")


def test_bytes_that_make_no_difference_give_equal_metrics(shop):
    [path] = shop.home.glob("mlflow/toy/**/model.skops")
    stored, later = path.read_bytes(), io.BytesIO()
    with ZipFile(io.BytesIO(stored)) as source, ZipFile(later, "w") as target:
        for name in source.namelist():
            target.writestr(ZipInfo(name, (2024, 1, 1, 0, 0, 0)), source.read(name))
    other = hashlib.sha256(later.getvalue()).hexdigest()
    assert load_model(later.getvalue(), other, trusted_types(candidate(shop).manifest.spec)).get_params()
    version = forge(shop, model_sha256=other)
    found = reproduce("toy", version, build=here)
    assert (found.verdict, found.expected, found.found) == ("equal metrics", other, candidate(shop).model_sha256)
    assert "each of" in found.sentence
    assert "the same within 1e-06 of its size" in found.sentence
    assert stamps(shop)[-1].entry.version == version
    assert shop.resources["registry"].version("toy", version).tags[REPRODUCED].startswith("equal metrics")


@pytest.mark.parametrize(
    ("spec", "suspect", "says"),
    [
        ({"seed": 8}, "seed", "the stored model has estimator__random_state 7, its manifest says 8."),
        (
            {"estimator": {"path": FOREST, "params": {"n_estimators": 6, "max_depth": 4}, "max_categories": 100}},
            "parameters",
            "the stored model has estimator__n_estimators 5, its manifest says 6.",
        ),
    ],
)
def test_another_seed_and_other_parameters_are_seen_in_the_stored_model(shop, spec, suspect, says):
    [cause] = differs(shop, forge(shop, spec=spec)).causes
    assert (cause.suspect, cause.says) == (suspect, says)


def test_another_package_version_is_said_before_it_is_tried_and_did_not_matter(shop):
    said: list[str] = []
    version = forge(shop, environment={**environment_of(candidate(shop)), "numpy": "1.26.0"})
    found = reproduce("toy", version, build=here, say=said.append)
    assert said == [f"different environment: numpy 1.26.0 -> {importlib.metadata.version('numpy')}."]
    assert (found.verdict, found.notes) == ("equal digest", (f"{said[0]} It did not matter.",))


def test_another_package_version_is_the_first_suspect_where_the_result_differs(shop):
    other = {**environment_of(candidate(shop)), "numpy": "1.26.0"}
    found = differs(shop, forge(shop, worse=1.1, environment=other, model_sha256="0" * 64))
    assert found.causes[0].suspect == "packages"
    assert "numpy 1.26.0 -> " in found.causes[0].says
    assert "The stored model" in found.notes[0]


@pytest.mark.parametrize(
    ("lock", "note"),
    [
        ("numpy==1.26.0\n", "different environment: numpy 1.26.0 -> "),
        (f"numpy=={importlib.metadata.version('numpy')}\n", "no installed package is."),
        (None, "is known of the most important only"),
    ],
)
def test_another_lock_is_told_by_the_packages_that_moved_since(shop, lock, note):
    kept = shop.resources["blobs"].put_bytes(lock.encode()) if lock else "3" * 64
    found = reproduce("toy", forge(shop, lock=kept), build=here)
    assert found.verdict == "equal digest"
    [said] = found.notes
    assert note in said


def test_where_nothing_recorded_differs_that_is_said(shop):
    [cause] = differs(shop, forge(shop, worse=1.1, model_sha256="1" * 64)).causes
    assert cause.suspect == "unknown"


def test_a_version_without_a_report_cannot_be_equal_in_its_metrics(shop):
    version = forge(shop, model_sha256="2" * 64)
    (shop.home / f"records/toy/{CARD}/v{version}.json").unlink()
    assert "No report of it is on record" in differs(shop, version).notes[-1]


@pytest.mark.parametrize(("harm", "why"), [(changed, "holds other bytes than were stored"), (gone, "is gone")])
def test_raw_bytes_that_changed_or_went_are_named_before_anything_is_built(shop, harm, why):
    path = bytes_of(shop)
    with harm(path):
        [cause] = differs(shop, build=never).causes
        status, said = type_in("toy", "1")
    assert cause.suspect == "raw bytes"
    assert f"raw_data[2024-01-01], shop-2024-01.csv: {path} {why}" in cause.says
    assert (status, str(path) in said, "No stamp was given." in said) == (1, True, True)


def test_a_delivery_that_was_replaced_is_found_by_its_version_and_missed_where_it_was_not_kept(shop):
    version = candidate(shop).manifest.deliveries["2024-03-01"]
    assert shop.resources["records"].get(Delivery, "toy", "raw_data", "2024-03-01").version != version
    with gone(shop.home / "records/toy" / DELIVERIES):
        [cause] = differs(shop, build=never).causes
    assert cause.suspect == "raw bytes"
    assert cause.says.startswith(f"raw_data[2024-03-01]: delivery {version[:12]} was replaced")


def test_a_manifest_that_was_changed_is_found_by_its_digest(shop):
    path = raw(shop, shop.resources["registry"].version("toy", 1).record)
    with changed(path, path.read_bytes().replace(b'"max_depth":4', b'"max_depth":5')):
        [cause] = differs(shop, build=never).causes
    assert cause.suspect == "manifest"
    assert "holds other bytes than were stored" in cause.says


def test_a_manifest_that_was_exchanged_in_the_registry_is_found_by_the_ledger(shop):
    registry = shop.resources["registry"]
    true = registry.version("toy", 1)
    other = registry.version("toy", forge(shop, spec={"seed": 9}))
    with registry._mlflow("forge") as client:
        for tag in (CANDIDATE, RECORD):
            client.set_model_version_tag("toy", "1", tag, other.tags[tag])
        try:
            [cause] = differs(shop, build=never).causes
        finally:
            for tag in (CANDIDATE, RECORD):
                client.set_model_version_tag("toy", "1", tag, true.tags[tag])
    assert cause.suspect == "manifest"
    assert "the ledger names another one" in cause.says


@pytest.mark.parametrize(
    ("model", "version", "why"),
    [("toy", "99", "There is no v99 of toy: it has v1"), ("other", "1", "no version of it is registered")],
)
def test_what_there_is_not_is_refused_with_status_2(shop, model, version, why):
    with pytest.raises(NoVersionError, match=why):
        reproduce(model, int(version), build=never)
    status, said = type_in(model, version)
    assert (status, why in said) == (2, True)


def test_labels_that_come_later_are_joined_anew(workshop, tmp_path, monkeypatch):
    shop = late.open_shop(workshop, tmp_path, gates=[])
    for setting in (settings.LEDGER, settings.LEDGER_ANCHORS, settings.TRACKING_URI):
        monkeypatch.delenv(setting.name, raising=False)
    monkeypatch.setenv(settings.HOME.name, str(shop.home))
    late.deliver_rows(shop, *MONTHS)
    for month in MONTHS:
        late.deliver_labels(shop, month)
    result = shop.run(MONTHS, (*PREPARED, "raw_labels", "labels", *TRAINED))
    assert result.success, failure(result)
    found = reproduce("toy", 1, build=here)
    assert (found.verdict, found.stamp, found.notes) == ("equal digest", 3, ())
    [labels] = shop.resources["records"].get(Delivery, "toy", "raw_labels", "2024-02-01").files
    with changed(raw(shop, labels.sha256)):
        [cause] = reproduce("toy", 1, build=never).causes
    assert cause.says.startswith("raw_labels[2024-02-01], labels-2024-02-all.csv: ")
