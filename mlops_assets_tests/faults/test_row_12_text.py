"""Row 12: encodings, byte order marks, control, invisible and look-alike characters, letters in either Unicode form."""

import io
import unicodedata

import pytest

from mlops_assets.ml.contracts import column_types, load_contract
from mlops_assets.ml.reading import UnreadableFileError, read
from mlops_assets.ml.validation import judge
from mlops_assets_tests import toy

SPEC = toy.spec("landing")
TOWNS = ("Zürich", "Orléans", "Paris", "A-1")
CONTRACT = load_contract(SPEC.contract).update_column("kind", checks=[])
CLOSED = toy.pa.DataFrameSchema.update_column(CONTRACT, "kind", checks=[toy.pa.Check.isin(TOWNS)])
HEADER = "ts,kind,price,wind,sales\n"

INVISIBLE = [
    *(f"Par{chr(code)}is" for code in (0x01, 0x02, 0x07, 0x08, 0x09, 0x0B, 0x0C, 0x1B, 0x1F, 0x7F)),
    *(f"Par{chr(code)}is" for code in (0x80, 0x85, 0x9F, 0xAD)),
    *(f"Par{chr(code)}is" for code in (0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2060, 0x2061, 0x2064, 0xFEFF)),
    *(f"Par{chr(code)}is" for code in (0x202A, 0x202B, 0x202C, 0x202D, 0x202E, 0x2066, 0x2067, 0x2068, 0x2069)),
    *(f"Par{chr(code)}is" for code in (0x2028, 0x2029, 0x061C, 0x180E, 0xFFF9, 0xE000, 0xE0041, 0xF0000)),
]
LOOK_ALIKES = [
    "P\u0430ris",  # Cyrillic a
    "Par\u0456s",  # Cyrillic i
    "\u0420aris",  # Cyrillic er
    "\u03a1aris",  # Greek rho
    "\uff30aris",  # full-width P
    "\U0001d40faris",  # mathematical bold P
    "Paris\u00a0",
    " Paris",
    "paris",
    "A\u20101",  # another hyphen
    "A\u22121",  # minus
    "Zu\u0308rich\u0308",
]
BYTES = {
    "latin-1": f"{HEADER}2024-01-05,Zürich,1,1,1\n".encode("latin-1"),
    "utf-16": f"{HEADER}2024-01-05,Zürich,1,1,1\n".encode("utf-16"),
    "windows-1252": f"{HEADER}2024-01-05,“Paris”,1,1,1\n".encode("cp1252"),
    "NUL": f"{HEADER}2024-01-05,Par\0is,1,1,1\n".encode(),
    "a lone continuation byte": f"{HEADER}2024-01-05,Par".encode() + b"\x80" + b"is,1,1,1\n",
    "a surrogate": f"{HEADER}2024-01-05,Par".encode() + b"\xed\xa0\x80" + b"is,1,1,1\n",
    "an overlong slash": f"{HEADER}2024-01-05,Par".encode() + b"\xc0\xaf" + b"is,1,1,1\n",
}


def delivered(content, contract=CONTRACT):
    table = read(io.BytesIO(content), "a.csv", SPEC.source, column_types(contract, SPEC))
    return judge({"a.csv": table}, SPEC, contract)


def towns(*names, contract=CONTRACT):
    lines = "".join(f'2024-01-05,"{name}",1,1,1\n' for name in names)
    return delivered((HEADER + lines).encode(), contract)


def caught_bytes(content):
    try:
        delivered(content)
    except UnreadableFileError:
        return True
    return False


@pytest.mark.fault(12)
def test_every_string_of_the_corpus_is_caught(record_figure):
    invisible = towns(*INVISIBLE, "Paris")
    alike = towns(*LOOK_ALIKES, *TOWNS, contract=CLOSED)
    refused = [name for name, content in BYTES.items() if caught_bytes(content)]

    caught = invisible.quarantined.num_rows + alike.quarantined.num_rows + len(refused)
    record_figure(caught=caught, corpus=len(INVISIBLE) + len(LOOK_ALIKES) + len(BYTES))
    assert set(invisible.quarantined["rule"].to_pylist()) == {"holds no control or invisible characters"}
    assert invisible.quarantined["row_number"].to_pylist() == list(range(1, len(INVISIBLE) + 1))
    assert alike.quarantined["row_number"].to_pylist() == list(range(1, len(LOOK_ALIKES) + 1))
    assert refused == list(BYTES)
    assert len(INVISIBLE) + len(LOOK_ALIKES) + len(BYTES) >= 58


@pytest.mark.fault(12)
@pytest.mark.parametrize(
    "name",
    ["Zürich", "Łódź", "東京", "القاهرة", "Αθήνα", "Москва", "O'Hare", "São Paulo", "x" * 1000, "🚲", "50 °C", "1 µm"],
)
def test_ordinary_names_of_the_world_are_kept(name):
    assert towns(name).good["kind"].tolist() == [unicodedata.normalize("NFC", name)]


@pytest.mark.fault(12)
def test_composed_and_decomposed_letters_are_one_category():
    found = towns("Orléans", unicodedata.normalize("NFD", "Orléans"), contract=CLOSED)
    assert found.good["kind"].cat.categories.tolist() == ["Orléans"]
    assert unicodedata.normalize("NFD", "Orléans") != "Orléans"


@pytest.mark.fault(12)
def test_a_mark_at_the_start_of_the_file_belongs_to_no_column():
    content = b"\xef\xbb\xbf" + f"{HEADER}2024-01-05,Paris,1,1,1\n".encode()
    assert len(delivered(content).good) == 1


@pytest.mark.fault(12)
def test_pandera_alone_lets_invisible_characters_pass():
    frame = toy.pd.DataFrame({"kind": toy.pd.Categorical(["Par\u200bis", "Paris"])})
    assert len(CONTRACT.select_columns(["kind"]).validate(frame)["kind"].cat.categories) == 2
