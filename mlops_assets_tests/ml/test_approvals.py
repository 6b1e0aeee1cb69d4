"""Answers to a question: what counts, on both sides of each border, and that no change passes for what was said."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_assets.ml.approvals import SignedAnswer, answer, objection, standing
from mlops_assets.ml.ledger import Entry, Link
from mlops_assets.ml.signed import signed_by
from mlops_assets.ml.signing import Trust, read_people
from mlops_assets.ml.spec import ReleaseRule
from mlops_assets_tests.approving import public_key, signing_key

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULE = ReleaseRule(mode="approval", approvers=("ana", "ben", "eve"))
TRUST = Trust(keys=read_people("\n".join(f"{who} {public_key(who)}" for who in ("ana", "ben", "webserver")), "people"))
ASKED = Entry(
    kind="asked",
    model="toy",
    version=2,
    who="run 2",
    why="It is better.",
    when=NOON,
    evidence={"model": "a" * 64, "report": "b" * 64},
    candidate="a" * 64,
    expires=NOON + timedelta(days=7),
)
QUESTION = Link.after(None, ASKED)


def said(who="ana", kind="approved", key=None, via="key", **more):
    entry = answer(QUESTION, kind, who, "I read it.", NOON, via=via, **more)
    return signed_by(signing_key(key or who), entry)


def stands(*entries, rule=RULE, trust=TRUST, evidence=None, now=NOON):
    links = [QUESTION]
    for entry in entries:
        links.append(Link.after(links[-1], entry))
    return standing(links, "toy", rule, trust, ASKED.evidence if evidence is None else evidence, now)


SIGNED = said()


@given(bit=st.integers(0, 8 * len(SIGNED.payload()) - 1))
def test_a_flipped_bit_anywhere_in_an_approval_is_found_even_where_the_chain_was_written_anew(bit):
    raw = bytearray(SIGNED.payload().encode())
    raw[bit // 8] ^= 1 << bit % 8
    try:
        changed = Entry.model_validate_json(bytes(raw))
    except (ValidationError, UnicodeDecodeError):
        return
    if changed.model_copy(update={"when": SIGNED.when}) == SIGNED:
        assert QUESTION.after(QUESTION, changed).hash != QUESTION.after(QUESTION, SIGNED).hash or changed == SIGNED
    else:
        assert objection(changed, QUESTION, RULE, TRUST) is not None


def test_what_is_signed_by_somebody_on_the_list_counts():
    assert objection(SIGNED, QUESTION, RULE, TRUST) is None
    assert stands(SIGNED).state == "approved"


@pytest.mark.parametrize("needed", [1, 2])
def test_as_many_people_as_are_needed_suffice_and_one_fewer_do_not(needed):
    rule = RULE.model_copy(update={"approvals_needed": needed})
    both = (said(), said("ben"))
    assert stands(*both[:needed], rule=rule).state == "approved"
    assert stands(*both[: needed - 1], rule=rule).state == "waiting"


@pytest.mark.parametrize("who", ["ana", "ben"])
def test_the_web_server_speaks_for_whom_the_proxy_logged_in_and_only_on_the_word_of_the_proxy(who):
    by_server = said(who, key="webserver", via="proxy", run="run-9")
    assert objection(by_server, QUESTION, RULE, TRUST) is None
    assert "is webserver's" in objection(said(who, key="webserver"), QUESTION, RULE, TRUST)
    assert f"is {who}'s" in objection(said(who, via="proxy", run="run-9"), QUESTION, RULE, TRUST)
    copied = by_server.model_copy(update={"run": "run-10"})
    assert "the signature is not of this approval" in objection(copied, QUESTION, RULE, TRUST)


def test_an_answer_to_another_question_does_not_count():
    later = Link.after(QUESTION, ASKED)
    assert "does not answer entry 2 of the ledger" in objection(SIGNED, later, RULE, TRUST)


def test_who_was_taken_off_the_list_counts_no_more():
    rule = RULE.model_copy(update={"approvers": ("ben", "eve")})
    assert stands(SIGNED, rule=rule).state == "waiting"


@pytest.mark.parametrize(
    ("evidence", "changed"),
    [
        ({"model": "a" * 64, "report": "c" * 64}, "report (bbbbbbbbbbbb then, cccccccccccc now)"),
        ({"model": "a" * 64}, "report (bbbbbbbbbbbb then, none now)"),
        ({**ASKED.evidence, "code": "d" * 64}, "code (none then, dddddddddddd now)"),
    ],
)
def test_what_has_changed_is_named_with_its_digests(evidence, changed):
    now = stands(SIGNED, evidence=evidence)
    assert now.state == "void"
    assert f"what it rests on has changed: {changed}." in now.sentence


def test_nothing_is_asked_where_nothing_was():
    assert standing([], "toy", RULE, TRUST, {}, NOON) is None
    assert standing([QUESTION], "other", RULE, TRUST, {}, NOON) is None


def test_what_travels_is_the_name_and_the_signature():
    told = SignedAnswer.model_validate_json(SignedAnswer.of(SIGNED).model_dump_json())
    bare = answer(QUESTION, "approved", "ana", "I read it.", NOON)
    assert told.on(bare) == SIGNED
    with pytest.raises(ValueError, match="no key to sign with"):
        SignedAnswer.of(bare)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"mode": "approval"}, "1 of 0 approvers cannot approve"),
        ({"mode": "approval", "approvers": ["ana"], "approvals_needed": 2}, "2 of 1 approvers cannot approve"),
        ({"approvers": ["ana"]}, "have nothing to say while release.mode is automatic"),
        ({"mode": "approval", "approvers": ["ana", "ana"]}, "'ana' stands here twice"),
        ({"mode": "approval", "approvers": ["webserver"]}, "the name of the web server's key"),
        ({"expires": "0d"}, "expires"),
        ({"expires": "a week"}, "expires"),
        ({"approvals_needed": 3}, "approvals_needed"),
        ({"mode": "approval", "approvers": ["ana; rm"]}, "approvers"),
    ],
)
def test_a_rule_that_nobody_could_follow_is_refused(changes, why):
    with pytest.raises(ValidationError, match=why):
        ReleaseRule.model_validate(changes)


@pytest.mark.parametrize(("expires", "hours"), [("36h", 36), ("7d", 168), ("1h", 1)])
def test_how_long_a_version_waits(expires, hours):
    assert ReleaseRule(expires=expires).lasts == timedelta(hours=hours)
