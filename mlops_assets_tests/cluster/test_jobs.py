"""When a Job makes a pod, is over, and is forgotten; by a clock that the test sets."""

from datetime import UTC, datetime, timedelta

import pytest

from mlops_assets_tests.cluster.jobs import Jobs
from mlops_assets_tests.cluster.objects import condition, holds, set_condition
from mlops_assets_tests.cluster.store import RefusedError, Store

NOON = datetime(2024, 6, 1, 12, tzinfo=UTC)


class Bench:
    """A Job controller, a clock, and pods that end as the test says."""

    def __init__(self, **spec):
        self.now, self.refusing = NOON, False
        self.store = Store(lambda: self.now)
        self.jobs = Jobs(self.store, self.admit)
        template = {"spec": {"containers": [], "restartPolicy": "Never"}}
        made = {"backoffLimit": 0, "template": template, **spec}
        self.job = self.store.put("Job", "step", "dagster", spec=made, status={})
        self.turn()

    def admit(self, pod):
        """Create it, or refuse it as a quota does."""
        if self.refusing:
            raise RefusedError(403, "Forbidden", "exceeded quota: devices")
        return self.store.create({**pod, "status": {"phase": "Pending", "conditions": []}})

    def turn(self, seconds=0):
        """Look again, some time later."""
        self.now += timedelta(seconds=seconds)
        self.jobs.turn()

    @property
    def pods(self):
        """The pods that are there."""
        return self.store.list("Pod")

    def end(self, phase, *disruption):
        """The newest pod ends."""
        pod = self.pods[-1]
        pod["status"]["phase"] = phase
        if disruption:
            set_condition(pod, "DisruptionTarget", True, self.now, *disruption)
        self.turn()
        self.turn()

    @property
    def verdict(self):
        """How the Job ended: Complete, or the reason of its failure."""
        failed = condition(self.job, "Failed")
        return "Complete" if holds(self.job, "Complete") else failed and failed["reason"]


def test_a_job_makes_one_pod_with_its_name_and_is_complete_when_it_succeeded():
    bench = Bench()
    assert [pod["metadata"]["labels"]["job-name"] for pod in bench.pods] == ["step"]
    assert bench.verdict is None
    bench.end("Succeeded")
    assert (bench.verdict, bench.job["status"]["succeeded"], len(bench.pods)) == ("Complete", 1, 1)


def test_a_job_fails_with_the_first_pod_beyond_its_limit():
    bench = Bench(backoffLimit=1)
    bench.end("Failed")
    assert (bench.verdict, len(bench.pods)) == (None, 2)
    bench.end("Failed")
    assert (bench.verdict, len(bench.pods)) == ("BackoffLimitExceeded", 2)


def test_a_pod_that_is_being_deleted_has_failed_and_the_job_with_it_when_it_is_gone():
    bench = Bench()
    bench.pods[0]["metadata"]["deletionTimestamp"] = "2024-06-01T12:00:00Z"
    bench.turn()
    assert holds(bench.job, "FailureTarget")
    assert bench.verdict is None
    bench.end("Failed")
    assert bench.verdict == "BackoffLimitExceeded"


def test_a_policy_may_leave_a_disrupted_pod_uncounted():
    rule = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    bench = Bench(podFailurePolicy={"rules": [rule]})
    bench.end("Failed", "TerminationByKubelet", "shutdown")
    assert (bench.verdict, len(bench.pods)) == (None, 2)
    bench.end("Failed")
    assert bench.verdict == "BackoffLimitExceeded"


def test_a_policy_may_fail_the_job_at_an_exit_code():
    rule = {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}}
    bench = Bench(backoffLimit=5, podFailurePolicy={"rules": [rule]})
    bench.pods[0]["status"]["containerStatuses"] = [{"state": {"terminated": {"exitCode": 42}}}]
    bench.end("Failed")
    assert bench.verdict == "PodFailurePolicy"


@pytest.mark.parametrize(("seconds", "verdict"), [(59, None), (60, "DeadlineExceeded")])
def test_a_deadline_ends_the_job_and_its_pod(seconds, verdict):
    bench = Bench(activeDeadlineSeconds=60)
    bench.turn(seconds)
    assert ("deletionTimestamp" in bench.pods[0]["metadata"]) == bool(verdict)
    bench.pods[0]["status"]["phase"] = "Failed" if verdict else "Running"
    bench.turn()
    assert bench.verdict == verdict


def test_a_refused_pod_is_an_event_and_is_tried_again():
    bench = Bench(suspend=True)
    assert bench.pods == []
    bench.refusing = True
    bench.job["spec"]["suspend"] = False
    bench.turn()
    bench.turn()
    (event,) = bench.store.list("Event")
    assert (event["reason"], event["message"], event["count"]) == (
        "FailedCreate", "Error creating: exceeded quota: devices", 2,
    )  # fmt: skip
    bench.refusing = False
    bench.turn()
    assert len(bench.pods) == 1


def test_a_job_and_its_pods_are_forgotten_when_their_time_is_over():
    bench = Bench(ttlSecondsAfterFinished=10)
    bench.end("Succeeded")
    bench.turn(9)
    assert bench.store.has("Job", "step", "dagster")
    bench.turn(1)
    assert not bench.store.has("Job", "step", "dagster")
    assert bench.pods == []
