"""Row 32: an artifact that is not the one that was registered is refused, whatever was done to it."""

import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.ml.artifacts import UnsafeModelError
from mlops_assets.ml.golden import Golden
from mlops_assets.ml.training import Candidate
from mlops_assets.resources.blobs import Blobs, CorruptBytesError
from mlops_assets.resources.mlmodel import ARTIFACT
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import CANDIDATE, RECORD, SEAL, Registry, RegistryConflictError, UnvouchedError
from mlops_assets.resources.tracking import TrackingUnavailableError
from mlops_assets_tests.ml.test_features import rows
from mlops_assets_tests.ml.test_signing import private_text, public_line
from mlops_assets_tests.resources.tracked import logged, tracking_in, trained

FLIPS = int(os.environ.get("MLOPS_FLIPS", "60"))
REFUSALS = (CorruptBytesError, RegistryConflictError, TrackingUnavailableError, UnsafeModelError)
FILES = (ARTIFACT, "MLmodel", "manifest.json", "python_env.yaml", "requirements.txt")


class Kept:
    """Two signed versions in MLflow, an older one and a newer one that is loaded, and where the newer one's lie."""

    def __init__(self, home):
        self.tracking, self.blobs = tracking_in(home), Blobs(root=str(home))
        (home / "key").write_bytes(private_text())
        (home / "key").chmod(0o600)
        (home / "people").write_text(f"training {public_line()}\n")
        where = {"root": str(home), "tracking_uri": self.tracking.tracking_uri}
        self.unsigned = Registry(**where)
        self.registry = Registry(**where, signing=f"{home}/key", trusted=f"{home}/people")
        candidates = [self.with_golden_rows(*each) for each in ((trained(seed=1), "run-1"), (trained(), "run-2"))]
        self.older, self.newer = [self.registry.register(each) for each in candidates]
        folders = {path.parent.parent.name: path.parent for path in home.rglob("MLmodel")}
        self.before, self.folder = [folders[each.model_uri.removeprefix("models:/")] for each in candidates]
        self.sound = {path: path.read_bytes() for path in self.folder.iterdir()}

    def with_golden_rows(self, what, run):
        made = logged(self.tracking, what, run)
        parquet = what.fitted.golden.to_parquet(index=False)
        golden = Golden(rows=self.blobs.put_bytes(parquet), answers=what.fitted.answers, made_in={})
        return made.model_copy(update={"golden": self.blobs.put_bytes(golden.model_dump_json().encode())})

    def load(self, registry=None):
        """What every reader of a registered version does; also its golden rows."""
        registry = registry or self.registry
        candidate = registry.candidate(registry.version("toy", self.newer.number))
        golden = Golden.model_validate_json(self.blobs.read(candidate.golden))
        self.blobs.read(golden.rows)
        return self.tracking.load(candidate)

    def retag(self, **tags):
        for name, value in tags.items():
            self.unsigned._tag(self.newer, {"seal": SEAL, "record": RECORD, "candidate": CANDIDATE}[name], value)

    def mend(self):
        """Put the newer version back as it was."""
        shutil.rmtree(self.folder)
        self.folder.mkdir()
        for path, content in self.sound.items():
            path.write_bytes(content)
        self.retag(seal=self.newer.tags[SEAL], record=self.newer.record, candidate=self.newer.candidate)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    return Kept(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def kept(prepared):
    yield prepared
    prepared.mend()


def flipped_artifact(kept):
    content = bytearray((kept.folder / ARTIFACT).read_bytes())
    content[len(content) // 2] ^= 1
    (kept.folder / ARTIFACT).write_bytes(content)


def flipped_description(kept):
    (kept.folder / "MLmodel").write_bytes((kept.before / "MLmodel").read_bytes())


def flipped_signature(kept):
    kept.retag(seal=kept.newer.tags[SEAL].replace("==", "A="))


def missing(kept):
    (kept.folder / ARTIFACT).unlink()


def renamed(kept):
    (kept.folder / ARTIFACT).rename(kept.folder / "model2.skops")


def linked(kept):
    (kept.folder / ARTIFACT).unlink()
    (kept.folder / ARTIFACT).symlink_to(kept.before / ARTIFACT)


def replayed(kept):
    """An older, validly signed version in the place of the newer one: its files, its record and its signature."""
    tags = kept.older.tags
    kept.retag(seal=tags[SEAL], record=kept.older.record, candidate=kept.older.candidate)
    for name in FILES:
        (kept.folder / name).write_bytes((kept.before / name).read_bytes())


KINDS = {
    flipped_artifact: rf"{ARTIFACT} has SHA-256",
    flipped_description: "MLmodel has SHA-256",
    flipped_signature: "toy v2 is not loaded: the signature is not of this registration",
    missing: f"{ARTIFACT} is missing",
    renamed: f"model2.skops does not belong there; {ARTIFACT} is missing",
    linked: rf"(?s){ARTIFACT}.*outside the artifact directory",
    replayed: "toy v2 is not loaded: what training signed is toy v1: it was put in the place of toy v2",
}


@pytest.mark.fault(32)
def test_seven_kinds_of_tampering_are_detected_and_named(kept, record_figure):
    assert len(kept.load().predict(rows(5))) == 5
    detected = 0
    for tamper, named in KINDS.items():
        tamper(kept)
        with pytest.raises(REFUSALS, match=named):
            kept.load()
        detected += 1
        kept.mend()
    assert len(kept.load().predict(rows(5))) == 5
    record_figure(detected=f"{detected}/{len(KINDS)}")


@pytest.mark.fault(32)
def test_a_digest_that_is_changed_in_the_record_is_detected_too(kept, tmp_path):
    made = kept.registry.candidate(kept.newer)
    records = Records(root=str(tmp_path))
    records.put("toy", "trained_model", made)
    (path,) = (tmp_path / "records" / "toy" / "trained_model").glob("*.json")
    forged = path.read_text().replace(made.model_sha256, "0" * 64)
    path.write_text(forged)
    with pytest.raises(CorruptBytesError, match="was changed after it was written"):
        records.get(type(made), "toy", "trained_model")


@pytest.mark.fault(32)
def test_without_keys_a_replay_passes_for_the_newer_version_which_is_what_a_signature_is_for(kept):
    replayed(kept)
    assert len(kept.load(kept.unsigned).predict(rows(5))) == 5
    with pytest.raises(UnvouchedError):
        kept.load()


@pytest.mark.fault(32)
def test_with_keys_an_unsigned_version_is_not_loaded_until_somebody_signs_it(kept):
    unsigned = kept.unsigned.register(kept.with_golden_rows(trained(seed=2), "run-3"))
    with pytest.raises(UnvouchedError, match=f"toy v{unsigned.number} is not loaded: it is not signed"):
        kept.registry.candidate(unsigned)
    signed = kept.registry.vouch(unsigned, kept.registry._signer())
    assert isinstance(kept.registry.candidate(signed), Candidate)
    assert kept.registry.voucher(signed) == "training"


@pytest.mark.fault(32)
@pytest.mark.timeout(900)
def test_one_flipped_bit_anywhere_is_found(prepared, record_figure):
    """In each file of the model, its record, its golden rows, what was said of them, and the signature."""
    places, flips = kept_in_files(prepared), 0

    @settings(max_examples=FLIPS, deadline=None)
    @given(data=st.data())
    def flip(data):
        nonlocal flips
        where = data.draw(st.sampled_from([*places, SEAL]))
        sound = prepared.newer.tags[SEAL].encode() if where == SEAL else places[where].read_bytes()
        bit = data.draw(st.integers(0, 8 * len(sound) - 1))
        found = sound[: bit // 8] + bytes([sound[bit // 8] ^ 1 << bit % 8]) + sound[bit // 8 + 1 :]
        put(prepared, places, where, found)
        try:
            with pytest.raises(REFUSALS):
                prepared.load()
        finally:
            put(prepared, places, where, sound)
        flips += 1

    assert len(prepared.load().predict(rows(5))) == 5
    flip()
    assert len(prepared.load().predict(rows(5))) == 5
    record_figure(flips=flips, silent=0, places=len(places) + 1)


@pytest.mark.fault(32)
def test_mlflow_itself_loads_the_older_model_as_the_newer(kept):
    import mlflow

    before = mlflow.pyfunc.load_model(str(kept.folder)).get_raw_model().predict(rows(5)).tolist()
    replayed(kept)
    after = mlflow.pyfunc.load_model(str(kept.folder)).get_raw_model().predict(rows(5)).tolist()
    assert after != before


def kept_in_files(kept):
    """Everything of a version that lies in a file, by what it is."""
    candidate = kept.unsigned.candidate(kept.newer)
    golden = Golden.model_validate_json(kept.blobs.read(candidate.golden))
    blobs = {"record": kept.newer.record, "golden": candidate.golden, "golden rows": golden.rows}
    return {name: kept.folder / name for name in FILES} | {
        name: Path(kept.blobs.uri(sha256)) for name, sha256 in blobs.items()
    }


def put(kept, places, where, content):
    if where == SEAL:
        kept.retag(seal=content.decode("latin-1"))
    else:
        places[where].write_bytes(content)
