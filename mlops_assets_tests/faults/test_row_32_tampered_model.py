"""Row 32: an artifact that is not the one that was registered is refused, whatever was done to it."""

import pytest

from mlops_assets.ml.artifacts import UnsafeModelError
from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.mlmodel import ARTIFACT
from mlops_assets.resources.records import Records
from mlops_assets.resources.tracking import TrackingUnavailableError
from mlops_assets_tests.ml.test_features import rows
from mlops_assets_tests.resources.tracked import logged, tracking_in, trained

Refusals = (UnsafeModelError, TrackingUnavailableError)


def flipped(folder, older):
    content = bytearray((folder / ARTIFACT).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / ARTIFACT).write_bytes(content)


def truncated(folder, older):
    (folder / ARTIFACT).write_bytes((folder / ARTIFACT).read_bytes()[:-100])


def missing(folder, older):
    (folder / ARTIFACT).unlink()


def renamed(folder, older):
    (folder / ARTIFACT).rename(folder / "model2.skops")


def linked(folder, older):
    (folder / ARTIFACT).unlink()
    (folder / ARTIFACT).symlink_to(older / ARTIFACT)


def rolled_back(folder, older):
    (folder / ARTIFACT).write_bytes((older / ARTIFACT).read_bytes())


def described_otherwise(folder, older):
    (folder / "MLmodel").write_bytes((older / "MLmodel").read_bytes())
    rolled_back(folder, older)


KINDS = [flipped, truncated, missing, renamed, linked, rolled_back, described_otherwise]


@pytest.fixture
def kept(tmp_path):
    """Two models in MLflow, an older and a newer one, and the newer one's candidate."""
    tracking = tracking_in(tmp_path)
    older = logged(tracking, trained(seed=1))
    newer = logged(tracking, trained())
    folders = {path.parent.parent.name: path.parent for path in tmp_path.rglob("MLmodel")}
    where = [folders[made.model_uri.removeprefix("models:/")] for made in (newer, older)]
    return tracking, newer, *where


@pytest.mark.fault(32)
def test_seven_kinds_of_tampering_are_detected(kept, record_figure):
    tracking, made, folder, older = kept
    sound = (folder / ARTIFACT).read_bytes()
    assert len(tracking.load(made).predict(rows(5))) == 5
    detected = 0
    for tamper in KINDS:
        tamper(folder, older)
        with pytest.raises(Refusals):
            tracking.load(made)
        detected += 1
        (folder / ARTIFACT).unlink(missing_ok=True)
        (folder / ARTIFACT).write_bytes(sound)
    assert len(tracking.load(made).predict(rows(5))) == 5
    record_figure(detected=f"{detected}/{len(KINDS)}")


@pytest.mark.fault(32)
def test_a_digest_that_is_changed_in_the_record_is_detected_too(kept, tmp_path):
    made = kept[1]
    records = Records(root=str(tmp_path))
    records.put("toy", "trained_model", made)
    (path,) = (tmp_path / "records" / "toy" / "trained_model").glob("*.json")
    forged = path.read_text().replace(made.model_sha256, "0" * 64)
    path.write_text(forged)
    with pytest.raises(CorruptBytesError, match="was changed after it was written"):
        records.get(type(made), "toy", "trained_model")


@pytest.mark.fault(32)
def test_mlflow_itself_loads_the_older_model_as_the_newer(kept):
    _, _, folder, older = kept
    import mlflow

    before = mlflow.pyfunc.load_model(str(folder)).get_raw_model().predict(rows(5)).tolist()
    rolled_back(folder, older)
    after = mlflow.pyfunc.load_model(str(folder)).get_raw_model().predict(rows(5)).tolist()
    assert after != before
