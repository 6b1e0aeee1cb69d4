"""The jobs of the launchpad: an answer counts by a signature, and by no field that anyone can type."""

import json

import dagster as dg
import pytest

from mlops_assets.lifecycle.answering import JOBS, answering
from mlops_assets.ml.approvals import SignedAnswer
from mlops_assets_tests.approving import PEOPLE, Office
from mlops_assets_tests.lifecycle.stages import failure


@pytest.fixture
def office(tmp_path):
    office = Office.open(tmp_path, *PEOPLE)
    office.ask()
    return office


def run(office, job="approve_release", tags=None, **config):
    """What the launchpad's run ends with."""
    filled = {"model": "toy", "version": 2, "reason": "I read the page.", **config}
    jobs = {each.name: each for each in answering([office.spec], office.clock)}
    wired = {name: getattr(office, name) for name in ("records", "blobs", "registry", "ledger", "keys")}
    with dg.DagsterInstance.ephemeral() as instance:
        return jobs[job].execute_in_process(
            instance=instance,
            tags=tags,
            resources=wired,
            run_config={"ops": {f"{job}_as_a_person": {"config": filled}}},
            raise_on_error=False,
        )


def signed(office, person, kind="approved", why="I read the page."):
    """What `--sign` prints for a person."""
    entry = office.desk().draft(kind, 2, person, why, lambda each: office.signed(each, person))
    return SignedAnswer.of(entry).model_dump_json()


@pytest.mark.parametrize(("job", "state"), [("approve_release", "approved"), ("refuse_release", "refused")])
def test_an_answer_that_was_signed_elsewhere_is_written_down_and_shown(office, job, state):
    assert office.kinds() == [("asked", 2)]
    result = run(office, job, signed=signed(office, "ana", JOBS[job]))
    assert result.success
    assert office.desk().standing().state == state
    said = office.ledger.links()[-1].entry
    assert (said.who, said.via, said.why) == ("ana", "key", "I read the page.")
    [seen] = [event for event in result.all_events if event.event_type_value == "ASSET_OBSERVATION"]
    shown = seen.asset_observation_data.asset_observation.metadata
    assert shown["answer"].value == f"ana {JOBS[job]} v2 of toy: I read the page."


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"reason": "Another reason."}, "the signature is not of this approval"),
        ({"job": "refuse_release"}, "the signature is not of this approval"),
    ],
)
def test_a_signature_is_of_one_answer_for_one_reason(office, changed, why):
    assert why in failure(run(office, signed=signed(office, "ana"), **changed))
    assert office.kinds() == [("asked", 2)]


def test_a_signature_under_anothers_name_is_refused(office):
    told = json.loads(signed(office, "ben")) | {"who": "ana"}
    assert "the signature is not of this approval" in failure(run(office, signed=json.dumps(told)))


@pytest.mark.parametrize("text", ["ana", "{}", '{"who": "ana"}'])
def test_what_sign_has_not_printed_is_refused_by_its_form(office, text):
    assert "`signed` does not hold what `--sign` printed" in failure(run(office, signed=text))


def test_without_a_signature_nobody_is_known(office):
    said = failure(run(office))
    assert "Nobody is known to have started this run: a field that anyone can type proves nothing" in said
    assert "Run `mlops-assets approve toy 2 --reason ...` where your key is" in said


def test_a_tag_that_names_a_person_proves_nothing(office):
    assert "Nobody is known" in failure(run(office, tags={"mlops/started_by": "ana"}))
    tags = {"mlops/started_by": "ana", "mlops/signature": "SHA256:x y"}
    assert "the key SHA256:x is nobody's" in failure(run(office, tags=tags))


def test_without_keys_the_launchpad_approves_nothing(tmp_path):
    office = Office.open(tmp_path)
    office.ask()
    tags = {"mlops/started_by": "ana", "mlops/signature": "SHA256:x y"}
    assert "Nobody is known" in failure(run(office, tags=tags))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"model": "other"}, "There is no model 'other'. There are: toy."),
        ({"version": 9}, "v9 of toy does not wait for approval. What was asked about last is v2."),
    ],
)
def test_a_model_or_version_that_is_not_there_is_named(office, config, why):
    assert why in failure(run(office, **config))
