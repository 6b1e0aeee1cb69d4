import json

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.ml.spec import Value
from mlops_assets.resources.blobs import CorruptBytesError
from mlops_assets.resources.records import OutdatedRecordError, Records


class Note(Value):
    """Something to hand on."""

    text: str
    number: float = 0.0


@pytest.fixture
def records(tmp_path):
    return Records(root=str(tmp_path))


@settings(max_examples=40, deadline=None)
@given(text=st.text(max_size=50), number=st.floats(allow_nan=False))
def test_a_record_comes_back_equal(text, number, tmp_path_factory):
    records = Records(root=str(tmp_path_factory.mktemp("root")))
    note = Note(text=text, number=number)
    records.put("toy", "notes", note, "2024-01-01")
    assert records.get(Note, "toy", "notes", "2024-01-01") == note


def test_a_record_that_was_never_put_is_none(records):
    assert records.get(Note, "toy", "notes") is None
    assert records.all(Note, "toy", "notes") == {}


def test_all_records_come_in_the_order_of_their_keys(records):
    for key in ("2024-03", "2024-01", "2024-02"):
        records.put("toy", "notes", Note(text=key), key)
    assert [*records.all(Note, "toy", "notes")] == ["2024-01", "2024-02", "2024-03"]
    assert [*records.all(Note, "toy", "notes", newest=2)] == ["2024-02", "2024-03"]


def test_some_records_are_those_that_are_there_and_no_other_is_read(records, tmp_path):
    for key in ("2024-03", "2024-01"):
        records.put("toy", "notes", Note(text=key), key)
    (tmp_path / "records" / "toy" / "notes" / "2024-03.json").write_text("broken")
    assert records.partitions("toy", "notes") == ["2024-01", "2024-03"]
    assert records.some(Note, "toy", "notes", ["2024-01", "2024-02"]) == {"2024-01": Note(text="2024-01")}


def test_a_record_changed_by_hand_is_refused_by_name(records, tmp_path):
    records.put("toy", "notes", Note(text="true"))
    [path] = (tmp_path / "records" / "toy" / "notes").iterdir()
    stored = json.loads(path.read_text())
    stored["value"]["text"] = "false"
    path.write_text(json.dumps(stored))
    with pytest.raises(CorruptBytesError, match=r"notes/latest.json was changed after it was written"):
        records.get(Note, "toy", "notes")


def test_half_a_record_is_refused(records, tmp_path):
    records.put("toy", "notes", Note(text="true"))
    [path] = (tmp_path / "records" / "toy" / "notes").iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(CorruptBytesError, match="not a record any more"):
        records.get(Note, "toy", "notes")


class Measurement(Value):
    """A note as a later version of the code writes it."""

    text: str
    unit: str
    places: tuple[int, ...]


def test_a_record_of_an_older_format_is_refused_with_what_it_lacks_and_what_to_do(records):
    records.put("toy", "notes", Note(text="secret"), "2024-01-01")
    with pytest.raises(OutdatedRecordError) as refused:
        records.get(Measurement, "toy", "notes", "2024-01-01")
    assert "toy/notes[2024-01-01] was written by another version of this package" in str(refused.value)
    assert "Measurement has no field 'number'" in str(refused.value)
    assert str(refused.value).endswith("Materialize notes of 2024-01-01 again.")
    assert "secret" not in str(refused.value)


def test_a_record_of_an_unpartitioned_asset_that_lacks_fields_names_every_one_of_them(records):
    class Short(Value):
        text: str

    records.put("toy", "note", Short(text="secret"))
    with pytest.raises(OutdatedRecordError) as refused:
        records.get(Measurement, "toy", "note")
    assert str(refused.value) == (
        "The record of toy/note was written by another version of this package: it lacks unit, places. "
        "Materialize note again."
    )


def test_a_record_with_a_value_of_another_kind_names_the_field_and_not_the_value(records):
    class Other(Value):
        text: str
        unit: str
        places: str

    records.put("toy", "note", Other(text="", unit="m", places="secret"))
    with pytest.raises(OutdatedRecordError, match=r"places: Input should be a valid tuple") as refused:
        records.get(Measurement, "toy", "note")
    assert "secret" not in str(refused.value)


def test_assets_hand_records_on_by_partition(records):
    months = dg.StaticPartitionsDefinition(["a", "b"])
    policy = dg.BackfillPolicy.single_run()
    seen = {}

    @dg.asset(key_prefix="toy", partitions_def=months, backfill_policy=policy)
    def notes(context: dg.AssetExecutionContext) -> dict[str, Note]:
        return {key: Note(text=key) for key in context.partition_keys}

    @dg.asset(key_prefix="toy", partitions_def=months, backfill_policy=policy)
    def summary(notes: dict[str, Note]) -> None:
        seen.update(notes)

    span = {"dagster/asset_partition_range_start": "a", "dagster/asset_partition_range_end": "b"}
    wiring = {"io_manager": records}
    assert dg.materialize([notes, summary], resources=wiring, tags=span, selection=[notes]).success
    assert dg.materialize([notes, summary], resources=wiring, partition_key="b", selection=[summary]).success
    assert seen == {"b": Note(text="b")}
    assert dg.materialize([notes, summary], resources=wiring, tags=span, selection=[summary]).success
    assert seen == {"a": Note(text="a"), "b": Note(text="b")}


def test_an_unpartitioned_asset_that_was_never_made_is_named(records):
    @dg.asset(key_prefix="toy")
    def note() -> Note:
        return Note(text="")

    @dg.asset(key_prefix="toy")
    def reader(note: Note) -> None: ...

    result = dg.materialize([note, reader], resources={"io_manager": records}, selection=[reader], raise_on_error=False)
    [failure] = [event for event in result.all_events if event.is_step_failure]
    assert "toy/note has no record" in failure.event_specific_data.error_display_string
