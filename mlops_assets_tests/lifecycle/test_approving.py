"""Approving, on a real registry and ledger: a version waits, and serves when those who may have said so, once."""

import dagster as dg
import pytest

from mlops_assets.lifecycle.approving import Desk, people_who_trained
from mlops_assets.lifecycle.releasing import LostError, NotApprovedError, Release, follow, release
from mlops_assets.ml.ledger import Entry, champion
from mlops_assets.resources.registry import Registry
from mlops_assets.resources.tracking import TrackingUnavailableError
from mlops_assets_tests.approving import NOON, PEOPLE, Office, made, public_key
from mlops_assets_tests.evidence import report

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def office(tmp_path):
    """Where version 2 waits for one of ana and ben, whose answers have to be signed."""
    office = Office.open(tmp_path, *PEOPLE)
    office.ask()
    return office


def test_a_version_that_waits_says_who_has_to_do_what_until_when(office):
    now = office.desk().standing()
    assert now.state == "waiting"
    assert now.sentence == (
        "v2 of toy waits for the approval of 1 of ana, ben until 2026-03-08 12:00 UTC. "
        "`mlops-assets approve toy 2 --reason ...` or `mlops-assets refuse toy 2 --reason ...`."
    )
    assert office.desk().settle() is None
    assert office.registry.holder("toy") == 1


def test_an_approved_version_is_released_once_with_who_approved_it_and_why(office):
    assert office.says("ana").sentence == "v2 of toy was approved by ana."
    reign = office.desk().settle()
    assert (reign.version, reign.who, reign.why) == (2, "ana", "It is better. ana: I read the page.")
    assert office.registry.holder("toy") == 2
    assert office.desk().settle() is None
    assert office.desk().standing().state == "over"
    assert office.kinds() == [("asked", 2), ("approved", 2), ("released", 2), ("confirmed", 2)]
    [released] = [
        each.entry for each in office.ledger.links() if each.entry.answers == 3 and each.entry.kind == "released"
    ]
    assert set(released.evidence) == {"model", "manifest", "data", "candidate", "report", "policy", "code"}


def test_the_same_question_is_asked_once(office):
    assert office.ask().state == "waiting"
    office.says("ana")
    assert office.ask().state == "approved"
    assert office.kinds() == [("asked", 2), ("approved", 2)]


def test_a_newer_version_takes_the_place_of_the_one_that_waits(office):
    office.says("ana")
    assert office.ask(3).version == 3
    assert office.desk().settle() is None
    with pytest.raises(
        NotApprovedError, match=r"v2 of toy does not wait for approval\. What was asked about last is v3"
    ):
        office.says("ben")


def test_what_was_refused_is_not_released_nor_asked_again(office):
    assert office.says("ben", "refused", why="Too few rows.").sentence == "v2 of toy was refused by ben: Too few rows."
    with pytest.raises(NotApprovedError, match="v2 of toy was refused by ben: Too few rows"):
        office.says("ana")
    assert office.ask().state == "refused"
    assert office.desk().settle() is None
    assert office.kinds() == [("asked", 2), ("refused", 2)]


def test_a_refusal_comes_before_an_approval_that_is_enough(office):
    office.says("ana")
    assert office.says("ben", "refused").state == "refused"
    assert office.desk().settle() is None


def test_a_version_that_does_not_exist_is_not_approved(office):
    with pytest.raises(
        NotApprovedError, match=r"v9 of toy does not wait for approval\. What was asked about last is v2"
    ):
        office.says("ana", version=9)


def test_where_nothing_was_asked_nothing_is_approved(tmp_path):
    with pytest.raises(NotApprovedError, match="Nobody was asked about any version"):
        Office.open(tmp_path).says("ana", version=1)


@pytest.mark.parametrize(("hours", "state"), [(7 * 24 - 0.01, "approved"), (7 * 24, "expired")])
def test_an_approval_counts_until_it_expires(office, hours, state):
    office.says("ana")
    office.wait(hours=hours)
    assert office.desk().standing().state == state
    assert (office.desk().settle() is None) == (state == "expired")


def test_what_has_expired_is_not_approved_and_can_be_asked_again(office):
    office.wait(days=7)
    with pytest.raises(
        NotApprovedError, match="has waited until 2026-03-08 12:00 UTC, and nobody let it serve in time"
    ):
        office.says("ana")
    assert office.ask().sentence.startswith("v2 of toy waits for the approval of 1 of ana, ben until 2026-03-15 12:00")
    office.says("ana")
    assert office.desk().settle().version == 2


def test_a_person_who_is_not_on_the_list_does_not_count(office):
    with pytest.raises(NotApprovedError, match="eve is not among the approvers of toy: ana, ben"):
        office.says("eve")
    assert office.kinds() == [("asked", 2)]


def test_two_have_to_approve_where_two_are_needed_and_one_person_counts_once(tmp_path):
    office = Office.open(tmp_path, *PEOPLE, approvals_needed=2)
    office.ask()
    for _ in range(2):
        now = office.says("ana")
        assert (now.state, "the approval of 1 of ben (ana approved)" in now.sentence) == ("waiting", True)
    assert office.desk().settle() is None
    assert office.kinds() == [("asked", 2), ("approved", 2)]
    office.says("ben")
    assert office.desk().settle().who == "ana, ben"


def test_who_trained_is_not_the_only_approver_where_two_are_needed(tmp_path):
    office = Office.open(tmp_path, *PEOPLE, approvals_needed=2, approvers=["ana", "eve", "ben"])
    office.ask(trained_by=("ana", "eve"))
    office.says("ana")
    now = office.says("eve")
    assert "the approval of 1 of ben (ana, eve approved, and trained it)" in now.sentence
    assert office.desk().settle() is None
    office.says("ben")
    assert office.desk().settle().version == 2


def test_who_trained_may_approve_alone_where_one_is_enough(tmp_path):
    office = Office.open(tmp_path, *PEOPLE)
    office.ask(trained_by=("ana",))
    assert office.says("ana").state == "approved"


def test_an_answer_with_anothers_key_is_refused(office):
    with pytest.raises(NotApprovedError, match=r"said to be by ana, and the key SHA256:.* is ben's"):
        office.says("ana", key="ben")
    with pytest.raises(NotApprovedError, match=r"the key SHA256:.* is nobody's"):
        office.says("ana", key="mallory")
    assert office.kinds() == [("asked", 2)]


def test_an_unsigned_answer_does_not_count_where_keys_are_configured(office):
    with pytest.raises(NotApprovedError, match="ana did not sign it, and keys are configured"):
        office.desk().answer("approved", 2, "ana", "x", lambda entry: entry)


def test_an_answer_that_somebody_wrote_into_the_ledger_does_not_count(office):
    question = office.desk().standing().question
    bound = question.entry.model_dump(include={"version", "previous", "candidate", "evidence", "expires"})
    said = {"model": "toy", "who": "ana", "why": "Forged.", "when": NOON, "answers": question.sequence}
    office.ledger.append(Entry(kind="approved", **bound, **said))
    office.ledger.append(office.signed(Entry(kind="approved", **bound, **said), "eve"))
    now = office.desk().standing()
    assert now.state == "waiting"
    assert "2 answers in the ledger do not count" in now.sentence
    assert office.desk().settle() is None


def test_a_key_that_is_revoked_after_the_approval_and_before_the_release_releases_nothing(office):
    office.says("ana")
    revoked = office.home / "people" / "revoked"
    revoked.mkdir()
    (office.home / "people" / "ana.pub").rename(revoked / "ana.pub")
    assert office.desk().standing().state == "waiting"
    assert office.desk().settle() is None
    with pytest.raises(NotApprovedError, match=r"the key SHA256:.* of ana was revoked"):
        office.says("ana")


def test_the_signatures_are_looked_at_again_inside_the_release(office):
    """Between the look and the release somebody refuses: the ledger's turn decides."""
    office.says("ana")
    desk = office.desk()
    wish = {"model": "toy", "version": 2, "judged_against": 1, "who": "ana", "why": "x", "evidence": {}}
    evidence = desk._evidence()
    office.says("ben", "refused")
    with pytest.raises(NotApprovedError, match="was refused by ben"):
        release(
            Release(**wish), office.ledger, office.registry, office.clock,
            lambda links: desk._unapproved(links, evidence),
        )  # fmt: skip
    assert champion(office.ledger.links(), "toy").version == 1


def test_an_approval_is_void_where_the_champion_has_changed_meanwhile(office):
    office.says("ana")
    other = {"who": "run 3", "why": "By hand.", "evidence": {}, "judged_against": 1}
    release(Release(model="toy", version=3, **other), office.ledger, office.registry, office.clock)
    now = office.desk().standing()
    assert now.state == "void"
    assert "it was judged against v1, and the champion is v3 now" in now.sentence
    assert office.desk().settle() is None
    with pytest.raises(NotApprovedError, match="the champion is v3 now"):
        office.says("ben")
    assert office.registry.holder("toy") == 3


class LooksAway(Desk):
    """A desk that goes on with what it saw before somebody else released another version."""

    def standing(self):
        """What it saw."""
        return self.spec.__dict__["seen"]


def test_of_two_releases_at_once_the_later_is_lost_and_on_record(office):
    office.says("ana")
    desk = LooksAway(**vars(office.desk()))
    desk.spec.__dict__["seen"] = office.desk().standing()
    other = {"who": "run 3", "why": "By hand.", "evidence": {}, "judged_against": 1}
    release(Release(model="toy", version=3, **other), office.ledger, office.registry, office.clock)
    with pytest.raises(LostError, match="v2 of toy was judged against v1, and the champion is v3 now"):
        desk.settle()
    assert office.kinds()[-1] == ("lost", 2)


def test_a_newer_report_on_the_same_candidate_voids_what_was_said(office):
    office.says("ana")
    office.records.put("toy", "evaluation_report", report(made(2), mae=2.5))
    assert "what it rests on has changed: report (" in office.desk().standing().sentence
    assert office.desk().settle() is None


def test_a_report_on_a_later_candidate_changes_nothing(office):
    office.says("ana")
    office.records.put("toy", "evaluation_report", report(made(3)))
    assert office.desk().settle().version == 2


def test_with_the_registry_down_half_way_ledger_and_alias_agree_after_the_next_look(office):
    office.says("ana")

    class AliasesDown(Registry):
        def crown(self, model, number, previous):
            Registry(root=self.root, tracking_uri=NOBODY).crown(model, number, previous)

    with pytest.raises(TrackingUnavailableError):
        office.desk(registry=AliasesDown(root=office.registry.root, tracking_uri=office.registry.tracking_uri)).settle()
    assert (champion(office.ledger.links(), "toy").version, office.registry.holder("toy")) == (2, 1)
    assert follow("toy", office.ledger, office.registry, office.clock)
    assert office.registry.holder("toy") == 2
    assert office.desk().settle() is None
    assert office.kinds() == [("asked", 2), ("approved", 2), ("released", 2), ("confirmed", 2)]
    assert office.ledger.verify() is None


def test_with_the_registry_down_nothing_is_approved_and_nothing_written(office):
    with pytest.raises(TrackingUnavailableError):
        office.says("ana", registry=Registry(root=str(office.home), tracking_uri=NOBODY))
    assert office.kinds() == [("asked", 2)]


def test_without_keys_an_answer_counts_unsigned_and_is_on_record_as_such(tmp_path):
    office = Office.open(tmp_path)
    office.ask()
    assert office.says("ana").state == "approved"
    said = office.ledger.links()[-1].entry
    assert (said.via, said.key, said.signature) == ("system", None, None)


def test_keys_that_are_configured_later_void_what_was_not_signed(tmp_path):
    office = Office.open(tmp_path)
    office.ask()
    office.says("ana")
    people = tmp_path / "trusted"
    people.write_text(f"ana {public_key('ana')}\n")
    desk = office.desk(keys=office.keys.model_copy(update={"trusted": str(people)}))
    assert desk.standing().state == "waiting"
    assert desk.settle() is None


def test_who_trained_is_who_a_run_names_and_the_user_where_no_sensor_asked_for_it(monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    with dg.DagsterInstance.ephemeral() as instance:
        by_ana = instance.create_run_for_job(a_job, tags={"mlops/started_by": "ana"})
        by_hand = instance.create_run_for_job(a_job)
        by_sensor = instance.create_run_for_job(a_job, tags={"dagster/sensor_name": "x"})
        assert people_who_trained(instance, [by_ana.run_id], by_hand) == ("ana", "ada")
        assert people_who_trained(instance, [by_ana.run_id, "gone"], by_sensor) == ("ana",)
        assert people_who_trained(instance, [], by_sensor) == ()


@dg.job
def a_job():
    """Nothing."""
