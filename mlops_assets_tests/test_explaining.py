"""`mlops-assets explain`: a prediction is led back to the bytes it rests on, and the first broken link is named."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlops_assets import settings
from mlops_assets.cli import app
from mlops_assets.explaining import explain, stored_here
from mlops_assets.lifecycle.approving import Desk
from mlops_assets.lifecycle.common import utc_now
from mlops_assets.ml.ledger import champion
from mlops_assets.ml.performance import PredictedPartition
from mlops_assets.ml.prediction_id import NoPredictionError
from mlops_assets.ml.proof import LINKS, BrokenLinkError, Explanation
from mlops_assets.ml.signed import signed_by
from mlops_assets.ml.sources import Delivery
from mlops_assets.ml.training import Candidate
from mlops_assets_tests import toy
from mlops_assets_tests.approving import PEOPLE, RULE, public_key, signing_key, trusting
from mlops_assets_tests.homes import instance_at
from mlops_assets_tests.lifecycle.stages import metadata
from mlops_assets_tests.toy import Workshop

MONTHS, APRIL = toy.MONTHS[:3], toy.MONTHS[3]
PREPARED = ("raw_data", "quarantined_rows", "validated_features")
TRAINED = ("trained_model", "evaluation_report", "registered_version", "champion")
SEVENTH = "toy:2024-04-01:7@v1"
RIDGE = {"path": "sklearn.linear_model.Ridge"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Iterator[Workshop]:
    """Three months learned from, released by the signed approval of ana, and April predicted by that version."""
    folder = tmp_path_factory.mktemp("explained")
    with instance_at(folder) as instance, pytest.MonkeyPatch.context() as patch:
        for setting in (settings.LEDGER, settings.LEDGER_ANCHORS, settings.TRACKING_URI):
            patch.delenv(setting.name, raising=False)
        patch.setenv(settings.HOME.name, str(folder / "home"))
        patch.setenv("COLUMNS", "200")
        keys = trusting(folder / "people", *PEOPLE)
        opened = Workshop(folder / "home", instance, {"estimator": RIDGE, "gates": [], "release": RULE})
        opened.resources["keys"] = keys
        patch.setenv(settings.TRUSTED_KEYS.name, keys.trusted)
        for month in (*MONTHS, APRIL):
            toy.deliver(opened.landing, month)
        assert opened.run(MONTHS, (*PREPARED, *TRAINED)).success
        approve(opened)
        opened.first = metadata(opened.run([APRIL], (*PREPARED, "predictions")), "predictions")["first_prediction"]
        yield opened


def approve(shop) -> None:
    """Let the version serve, as ana."""
    wired = {name: shop.resources[name] for name in ("ledger", "registry", "records", "blobs", "keys")}
    desk = Desk(spec=shop.spec, clock=utc_now, **wired)

    def signed(entry):
        return signed_by(signing_key("ana"), entry.model_copy(update={"via": "key"}))

    desk.answer("approved", 1, "ana", "I read the page.", signed)
    assert desk.settle().version == 1


def record(shop, kind, asset, partition="latest"):
    return shop.resources["records"].get(kind, "toy", asset, partition)


def predicted(shop) -> PredictedPartition:
    return record(shop, PredictedPartition, "predictions", "2024-04-01")


def evidence(shop) -> dict[str, str]:
    return champion(shop.resources["ledger"].links("toy"), "toy").evidence


def type_in(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["explain", *words])
    return result.exit_code, result.output


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


def names(found: Explanation) -> list[str]:
    return [step.link for step in found.steps]


def test_a_whole_chain_leads_from_the_score_to_raw_bytes_code_and_lock(shop):
    found = explain(SEVENTH)
    assert found.broken is None
    assert tuple(names(found)) == LINKS
    scores = shop.resources["tables"].read("toy", "predictions", predicted(shop).files)
    assert found.answer == {"score": scores["score"][6]}
    files = {file: sha256 for step in found.steps for file, sha256 in step.files.items()}
    deliveries = shop.resources["records"].all(Delivery, "toy", "raw_data").values()
    raw = {file.sha256 for each in deliveries for file in each.files}
    candidate = record(shop, Candidate, "trained_model")
    manifest = candidate.manifest
    assert len(raw) == 4
    assert raw | {candidate.model_sha256, manifest.code, manifest.lock, evidence(shop)["report"]} <= set(files.values())
    assert all(Path(file).exists() for file in files)
    told = {step.link: step.says for step in found.steps}
    assert "v1 was released" in told["release"]
    assert "UTC by ana. " in told["release"]
    assert "and ana did (signatures verified)" in told["approval"]
    assert "by ana, until" in told["approval"]
    assert "learned from 2024-01-01 and 2024-02-01, judged on 2024-03-01" in told["manifest"]
    assert "mae" in told["report"]


def test_the_name_in_the_metadata_is_a_command_that_explains_the_first_row(shop):
    command, word, name = shop.first.split()
    assert (command, word) == ("mlops-assets", "explain")
    status, said = type_in(name)
    assert status == 0
    assert "Row 1 of 300" in said
    assert explain(SEVENTH).prediction == name.replace(":1@", ":7@")


def test_a_row_may_be_named_by_its_values_and_means_the_same(shop):
    rows = shop.resources["tables"].read("toy", "validated_features", predicted(shop).rows_files)
    row = rows.iloc[41]
    by_key = explain(f"toy:2024-04-01:kind={row['kind']}&price={float(row['price'])!r}@v1")
    assert by_key == explain("toy:2024-04-01:42@v1")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("toy", "names no prediction: write <model>:<partition>:<row>@v<version>"),
        ("toy:2024-04-01:7", "names no prediction"),
        ("toy:../x:7@v1", "names no prediction"),
        ("toy:2024-04-01:0@v1", "Rows are counted from 1"),
        ("toy:2024-04-01:seven@v1", "'seven' names no row"),
        ("toy:2024-04-01:301@v1", "v1 scored 300 rows"),
        ("toy:2024-05-01:7@v1", "nothing was predicted for 2024-05-01 of toy"),
        ("other:2024-04-01:7@v1", "nothing was predicted for 2024-04-01 of other"),
        ("toy:2024-04-01:7@v2", "the newest predictions are by v1"),
        ("toy:2024-04-01:kind=a@v1", "rows have these values. Name one by its number: "),
        ("toy:2024-04-01:price=200@v1", "no row of this partition has these values"),
        ("toy:2024-04-01:town=x@v1", "the rows have no column town; they have event_time, kind, price"),
        ("toy:2024-04-01:price=cheap@v1", "price is double, and 'cheap' is none"),
        ("toy:2024-04-01:7@v1-00000000", "there is no record 00000000"),
    ],
)
def test_what_names_no_prediction_is_refused_with_the_reason_and_status_2(shop, name, why):
    with pytest.raises(NoPredictionError, match=why.replace("[", r"\[").replace("(", r"\(")):
        explain(name)
    status, said = type_in(name)
    assert status == 2
    assert why in " ".join(said.split())


def test_a_record_of_something_else_is_no_prediction(shop):
    with pytest.raises(NoPredictionError, match="is the record of something else"):
        explain(f"toy:2024-03-01:7@v1-{predicted(shop).digest()[:12]}")


def broken_files(shop) -> dict[str, tuple[str, Path]]:
    """A file of each link, by what it is: the link that is broken where the file is."""
    home, made, rests = shop.home, predicted(shop), evidence(shop)
    candidate = record(shop, Candidate, "trained_model")
    delivery = record(shop, Delivery, "raw_data", "2024-01-01")
    blob = {name: home / "raw" / sha256[:2] / sha256 for name, sha256 in rests.items()}
    raw = delivery.files[0].sha256
    [scores], [rows] = made.files, made.rows_files
    [model] = home.glob("mlflow/**/model.skops")
    return {
        "record of predictions": ("prediction", home / "records/toy/predictions/2024-04-01.json"),
        "scores": ("prediction", home / "tables/toy/predictions" / scores),
        "validated rows": ("row", home / "tables/toy/validated_features" / rows),
        "policy": ("approval", blob["policy"]),
        "report": ("report", blob["report"]),
        "manifest": ("manifest", blob["candidate"]),
        "artifact": ("model", model),
        "raw file": ("data", home / "raw" / raw[:2] / raw),
        "source": ("code", home / "code" / f"{candidate.manifest.code}.zip"),
        "lock": ("lock", home / "raw" / candidate.manifest.lock[:2] / candidate.manifest.lock),
    }


FILES = ["scores", "validated rows", "policy", "report", "manifest", "artifact", "raw file", "source", "lock"]


@pytest.mark.parametrize("what", ["record of predictions", *FILES])
def test_a_flipped_bit_is_named_with_link_file_and_digests(shop, what):
    link, path = broken_files(shop)[what]
    with changed(path):
        found = explain(SEVENTH)
        status, said = type_in(SEVENTH)
    assert (found.broken.link, names(found)[-1]) == (link, link)
    assert f"broken at '{link}'" in found.sentence
    assert "SHA-256" in found.broken.broken or what == "source"
    assert (status, str(path) in said) == (1, True)
    assert explain(SEVENTH).broken is None


@pytest.mark.parametrize("what", FILES)
def test_a_file_that_is_gone_is_named(shop, what, tmp_path):
    link, path = broken_files(shop)[what]
    path.rename(tmp_path / "away")
    try:
        found = explain(SEVENTH)
    finally:
        (tmp_path / "away").rename(path)
    assert found.broken.link == link
    assert str(path) in found.broken.broken
    assert "is gone" in found.broken.broken


def test_raw_bytes_are_only_named_where_that_is_asked_for(shop):
    _, path = broken_files(shop)["raw file"]
    with changed(path):
        found = explain(SEVENTH, with_data=False)
    assert found.broken is None
    assert "4 raw files in 4 deliveries are named, and were not read." in [step.says for step in found.steps]


def test_every_file_of_the_folder_of_the_model_is_verified(shop):
    [path] = shop.home.glob("mlflow/**/MLmodel")
    with changed(path):
        found = explain(SEVENTH)
    assert (found.broken.link, str(path) in found.broken.broken) == ("model", True)


def test_a_model_that_mlflow_keeps_is_fetched_from_it_and_held_against_its_digest(shop):
    candidate = record(shop, Candidate, "trained_model")
    stored = stored_here()
    where, content = stored.artifact(candidate.model_dump(mode="json"))
    assert (where, hashlib.sha256(content).hexdigest()) == (candidate.model_uri, candidate.model_sha256)
    with changed(broken_files(shop)["artifact"][1]), pytest.raises(BrokenLinkError, match="is not as it was stored"):
        stored.artifact(candidate.model_dump(mode="json"))


def test_an_mlflow_that_keeps_the_model_and_does_not_answer_is_said(shop, monkeypatch, tmp_path):
    folder = broken_files(shop)["artifact"][1].parent
    monkeypatch.setenv(settings.TRACKING_URI.name, "http://127.0.0.1:9")
    folder.rename(tmp_path / "away")
    try:
        status, said = type_in(SEVENTH)
    finally:
        (tmp_path / "away").rename(folder)
    assert (status, "MLflow at http://127.0.0.1:9 did not" in said) == (2, True)


def forged(path: Path, statement: str, *values: str) -> None:
    """What somebody does who takes the triggers off first."""
    with sqlite3.connect(path) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(statement, values)


def test_a_changed_entry_of_the_ledger_breaks_the_release(shop):
    path = shop.home / "ledger.db"
    with changed(path, path.read_bytes()):
        forged(path, "UPDATE mlops_ledger SET payload = replace(payload, 'ana', 'eve') WHERE sequence = 2")
        found = explain(SEVENTH)
        status, said = type_in(SEVENTH)
    assert found.broken.link == "release"
    assert f"{path} is broken: entry 2 is not what was written" in found.broken.broken
    assert (status, "entry 2 is not what was written" in said) == (1, True)


def test_a_ledger_that_was_cut_off_is_found_by_its_anchors(shop):
    path = shop.home / "ledger.db"
    with changed(path, path.read_bytes()):
        forged(path, "DELETE FROM mlops_ledger WHERE sequence = 4")
        found = explain(SEVENTH)
    assert found.broken.link == "release"
    assert "the ledger ends before it" in found.broken.broken


def test_an_approval_by_a_key_that_is_not_trusted_or_was_revoked_is_none(shop, monkeypatch, tmp_path):
    assert trusting(tmp_path / "others", "ben").trusted
    monkeypatch.setenv(settings.TRUSTED_KEYS.name, str(tmp_path / "others"))
    found = explain(SEVENTH)
    assert found.broken.link == "approval"
    assert "holds 0 of the 1 approvals that the policy asks for: the key SHA256:" in found.broken.broken
    (tmp_path / "people").write_text(f"@revoked ana {public_key('ana')}")
    monkeypatch.setenv(settings.TRUSTED_KEYS.name, str(tmp_path / "people"))
    assert "of ana was revoked" in explain(SEVENTH).broken.broken


def test_without_trusted_keys_it_is_said_that_no_signature_was_verified(shop, monkeypatch):
    monkeypatch.setenv(settings.TRUSTED_KEYS.name, "")
    assert any("signatures not verified: no trusted keys" in step.says for step in explain(SEVENTH).steps)


def test_keys_that_cannot_be_read_are_said(shop, monkeypatch):
    monkeypatch.setenv(settings.TRUSTED_KEYS.name, "/nowhere/keys")
    status, said = type_in(SEVENTH)
    assert (status, "/nowhere/keys" in said) == (2, True)


def test_no_ledger_at_all_is_said(shop, monkeypatch):
    monkeypatch.setenv(settings.LEDGER.name, f"sqlite:///{shop.home}/nowhere.db")
    status, said = type_in(SEVENTH)
    assert status == 2
    assert "nowhere.db cannot be read" in said


def test_scores_by_another_version_than_the_record_names_are_found(shop):
    path = shop.home / "records/toy/predictions/2024-04-01.json"
    made = predicted(shop)
    with changed(path, path.read_bytes()):
        other = made.model_copy(update={"candidate": "0" * 64})
        shop.resources["records"].put("toy", "predictions", other, "2024-04-01")
        found = explain(SEVENTH)
    assert found.broken.link == "prediction"
    assert "is not by v1" in found.broken.broken


def test_a_delivery_from_before_they_were_listed_is_found_by_its_record(shop, tmp_path):
    version = record(shop, Delivery, "raw_data", "2024-01-01").version
    path = shop.home / "raw" / version[:2] / version
    path.rename(tmp_path / "away")
    try:
        assert explain(SEVENTH).broken is None
        with changed(shop.home / "records/toy/raw_data/2024-01-01.json", b'{"value": {"files": []}, "sha256": ""}'):
            assert explain(SEVENTH).broken.link == "data"
    finally:
        (tmp_path / "away").rename(path)


def test_predictions_that_gave_way_are_explained_still(shop):
    before, rows = predicted(shop), toy.rows(APRIL)
    toy.deliver(shop.landing, APRIL, rows.assign(price=rows["price"] + 1))
    assert shop.run([APRIL], (*PREPARED, "predictions")).success
    pinned = f"toy:2024-04-01:7@v1-{before.digest()[:12]}"
    now, then = explain(SEVENTH), explain(pinned)
    assert (now.broken, then.broken) == (None, None)
    assert now.answer != then.answer
    assert (then.prediction, predicted(shop).before) == (pinned, before.digest())


def test_json_says_all_of_it(shop):
    status, said = type_in(SEVENTH, "--json")
    found = json.loads(said)
    assert status == 0
    assert [step["link"] for step in found["steps"]] == list(LINKS)
    assert all(len(sha256) == 64 for step in found["steps"] for sha256 in step["files"].values())


def test_explaining_imports_neither_dagster_nor_pandas(shop):
    program = (
        "import sys; from mlops_assets.explaining import explain; "
        f"assert explain({SEVENTH!r}).broken is None; print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"dagster", "pandas", "mlflow", "sklearn", "sqlalchemy", "pandera"} & set(done.stdout.split())
