"""Row 30: an approval of what is not the same any more releases nothing, whatever of it has changed."""

import pytest

from mlops_assets.lifecycle.approving import Desk
from mlops_assets.lifecycle.releasing import Release, release
from mlops_assets.ml.approvals import answer, newest_question
from mlops_assets.ml.ledger import champion
from mlops_assets.ml.registration import identity
from mlops_assets.resources.registry import CANDIDATE, RECORD
from mlops_assets_tests.approving import PEOPLE, Office, made
from mlops_assets_tests.evidence import report


def swapped(office, **changes):
    """Somebody puts another candidate into the registry's version."""
    candidate = made(2)
    manifest = candidate.manifest.model_copy(update=changes.pop("manifest", {}))
    other = candidate.model_copy(update={"manifest": manifest, **changes})
    version = office.registry.version("toy", 2)
    office.registry._tag(version, RECORD, office.blobs.put_bytes(other.model_dump_json().encode()))
    office.registry._tag(version, CANDIDATE, identity(other))


def model(office):
    swapped(office, model_sha256="f" * 64)
    return "model ("


def manifest(office):
    swapped(office, manifest={"lock": "another"})
    return "manifest ("


def data(office):
    swapped(office, manifest={"contents": {"2024-01-01": "f" * 64}})
    return "data ("


def judged_anew(office):
    office.records.put("toy", "evaluation_report", report(made(2), mae=2.9))
    return "report ("


def policy(office):
    office.rule["approvers"] = ["ana", "ben", "eve"]
    return "policy ("


def code(office):
    """The question, and a signed answer to it, of a release of this package that decided otherwise."""
    asked = newest_question(office.ledger.links("toy"), "toy").entry
    older = asked.model_copy(update={"evidence": asked.evidence | {"code": "0" * 64}})
    question = office.ledger.append(older)
    office.ledger.append(office.signed(answer(question, "approved", "ana", "Then.", office.clock()), "ana"))
    return "code ("


def time(office):
    office.wait(days=7)
    return "has waited until"


def champion_changed(office):
    wish = {"who": "run 3", "why": "By hand.", "evidence": {}, "judged_against": 1}
    release(Release(model="toy", version=3, **wish), office.ledger, office.registry, office.clock)
    return "the champion is v3 now"


def revoked_key(office):
    (office.home / "people" / "revoked").mkdir()
    (office.home / "people" / "ana.pub").rename(office.home / "people" / "revoked" / "ana.pub")
    return "waits for the approval of 1 of"


def approver_is_author(office):
    office.rule["approvals_needed"] = 2
    office.wait(days=8)
    office.ask(trained_by=("ana",))
    office.says("ana")
    return "ana approved, and trained it"


STALE = (
    model, manifest, data, judged_anew, policy, code, time, champion_changed, revoked_key, approver_is_author,
)  # fmt: skip


def approved(home):
    """An office in which ana has approved version 2."""
    office = Office.open(home, *PEOPLE)
    office.ask()
    office.says("ana")
    return office


def an_unbound_flag(office):
    """What a flag says that is bound to a version only."""
    return any(link.entry.kind == "approved" and link.entry.version == 2 for link in office.ledger.links("toy"))


@pytest.mark.fault(30)
def test_a_stale_approval_releases_nothing_and_says_what_changed(tmp_path, record_figure):
    fresh = approved(tmp_path / "control")
    assert fresh.desk().settle().version == 2

    refused, flagged = 0, 0
    for stale in STALE:
        office = approved(tmp_path / stale.__name__)
        said = stale(office)
        desk: Desk = office.desk()
        assert said in desk.standing().sentence, stale.__name__
        assert desk.settle() is None, stale.__name__
        refused += champion(office.ledger.links("toy"), "toy").version != 2
        flagged += an_unbound_flag(office)
    record_figure(stale_kinds=len(STALE), refused=refused)
    record_figure(control=True, stale_kinds=len(STALE), released_by_a_flag_bound_to_a_version=flagged)
    assert (len(STALE), refused, flagged) == (10, 10, 10)
