"""The chain: whatever is changed in it is found where it is, and who reigned is known at each moment."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_assets.ml.ledger import Anchor, Entry, Link, champion, champion_at, reigns, verify

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FIELDS = ("sequence", "model", "payload", "hash")


def entry(version=1, kind="released", minutes=0, model="toy", **changes):
    said = {"who": "ada", "why": "It is better.", "when": NOON + timedelta(minutes=minutes)}
    return Entry.model_validate({"kind": kind, "model": model, "version": version, **said, **changes})


def chain(*entries):
    links = []
    for each in entries:
        links.append(Link.after(links[-1] if links else None, each))
    return links


def anchors(links):
    return [Anchor(sequence=link.sequence, hash=link.hash) for link in links]


WHOLE = chain(*(entry(number, minutes=number, evidence={"model": f"{number:064x}"}) for number in range(1, 9)))


def flipped(link, field, bit):
    """The link with one bit of one field turned, as a reader of the database gets it."""
    value = getattr(link, field)
    if field == "sequence":
        return link.model_copy(update={field: value ^ (1 << bit % 31)})
    stored = bytearray(value.encode())
    stored[bit // 8 % len(stored)] ^= 1 << bit % 8
    return link.model_copy(update={field: bytes(stored).decode("utf-8", "replace")})


def test_a_whole_ledger_has_no_broken_link():
    assert verify([]) is None
    assert verify(WHOLE) is None
    assert verify(WHOLE, anchors(WHOLE)) is None


@given(place=st.integers(0, len(WHOLE) - 1), field=st.sampled_from(FIELDS), bit=st.integers(0, 8 * 400))
def test_one_flipped_bit_anywhere_is_found_and_its_entry_named(place, field, bit):
    changed = list(WHOLE)
    changed[place] = flipped(changed[place], field, bit)
    assume(len({link.sequence for link in changed}) == len(changed))
    found = verify(sorted(changed, key=lambda link: link.sequence))
    assert f"entry {place + 1} " in found or f"entry {changed[place].sequence} " in found


@given(place=st.integers(0, len(WHOLE) - 1))
def test_an_entry_taken_out_is_named(place):
    cut = [*WHOLE[:place], *WHOLE[place + 1 :]]
    assert verify(cut, anchors(WHOLE)).startswith(f"entry {place + 1} is missing")


@given(kept=st.integers(0, len(WHOLE) - 1), anchored=st.integers(1, len(WHOLE)))
def test_a_tail_cut_off_is_found_when_what_is_gone_was_anchored_and_only_then(kept, anchored):
    found = verify(WHOLE[:kept], anchors(WHOLE[anchored - 1 : anchored]))
    assert (found is None) == (anchored <= kept)
    assert found is None or f"entry {kept + 1} is missing" in found


def test_entries_exchanged_are_found_at_the_first_of_them():
    second, third = WHOLE[1:3]
    swapped = [
        WHOLE[0],
        third.model_copy(update={"sequence": 2}),
        second.model_copy(update={"sequence": 3}),
        *WHOLE[3:],
    ]
    assert "entry 2 is not what was written" in verify(swapped)


def test_a_ledger_written_anew_is_whole_by_itself_and_found_by_an_anchor():
    forged = chain(*(link.entry.model_copy(update={"who": "mallory"}) for link in WHOLE))
    assert verify(forged) is None
    assert "entry 1 is another than was anchored" in verify(forged, anchors(WHOLE))
    assert "entry 8 is another" in verify(forged, anchors(WHOLE[-1:]))


def test_the_same_entry_has_the_same_bytes_wherever_it_was_written():
    here = entry(when=NOON, evidence={"b": "2", "a": "1"})
    there = entry(when=NOON.astimezone(timezone(timedelta(hours=5))), evidence={"a": "1", "b": "2"})
    assert here.payload() == there.payload()
    assert here.payload().isascii()
    assert "\n" not in entry(why="a\nb, ü").payload()


def test_what_was_written_is_read_again():
    assert [link.entry.version for link in WHOLE] == list(range(1, 9))
    assert Entry.model_validate_json(WHOLE[0].payload) == WHOLE[0].entry


@pytest.mark.parametrize(
    "changes", [{"who": " "}, {"why": ""}, {"version": 0}, {"when": NOON.replace(tzinfo=None)}, {"kind": "changed"}]
)
def test_an_entry_without_a_person_a_reason_a_version_or_a_zone_is_refused(changes):
    with pytest.raises(ValidationError):
        entry(**changes)


def test_time_does_not_run_backwards_when_a_clock_does():
    links = chain(entry(1, minutes=5), entry(2, minutes=3), entry(3, minutes=6))
    assert [link.entry.when.minute for link in links] == [5, 5, 6]
    assert verify(links) is None


def test_the_champion_is_the_last_that_was_made_one_and_confirmations_change_nothing():
    links = chain(
        entry(1),
        entry(1, "confirmed", 1, answers=1),
        entry(2, minutes=2, previous=1),
        entry(3, "lost", 3, previous=1),
        entry(9, minutes=4, model="other"),
        entry(2, "restored", 5),
        entry(4, "approved", 6),
    )
    assert (champion(links, "toy").version, champion(links, "toy").previous) == (2, 1)
    assert [(reign.version, reign.confirmed) for reign in reigns(links, "toy")] == [
        (1, NOON + timedelta(minutes=1)),
        (2, None),
    ]
    assert champion(links, "other").version == 9
    assert champion(links, "nothing") is None


def test_a_version_that_was_gone_back_to_reigns_again():
    links = chain(entry(1), entry(2, minutes=1, previous=1), entry(1, "rolled_back", 2, previous=2))
    assert [reign.version for reign in reigns(links, "toy")] == [1, 2, 1]
    assert champion(links, "toy").kind == "rolled_back"


def test_who_reigned_is_known_on_both_sides_of_each_border():
    links = chain(entry(1), entry(2, minutes=10), entry(1, "rolled_back", 20))
    tick = timedelta(microseconds=1)

    def at(minutes, shift=timedelta(0)):
        found = champion_at(links, "toy", NOON + timedelta(minutes=minutes) + shift)
        return found.version if found else None

    assert [at(0, -tick), at(0), at(0, tick)] == [None, 1, 1]
    assert [at(10, -tick), at(10), at(10, tick)] == [1, 2, 2]
    assert [at(20, -tick), at(20), at(99)] == [2, 1, 1]


@given(minutes=st.lists(st.integers(0, 50), min_size=1, max_size=12), asked=st.integers(-1, 51))
def test_at_each_moment_there_is_at_most_one_champion_and_never_none_after_the_first(minutes, asked):
    links = chain(*(entry(number, minutes=minute) for number, minute in enumerate(minutes, start=1)))
    found = champion_at(links, "toy", NOON + timedelta(minutes=asked))
    begun = [reign for reign in reigns(links, "toy") if reign.since <= NOON + timedelta(minutes=asked)]
    assert (found is None) == (asked < minutes[0])
    assert found is None or found == begun[-1]
