"""What Kubernetes' API says of a Job, and what its refusals mean: a mistake of ours, or only a bad moment."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dagster_k8s.client import DagsterK8sAPIRetryLimitExceeded, DagsterK8sUnrecoverableAPIError
from kubernetes.client import ApiException
from urllib3.exceptions import HTTPError

from mlops_assets.compute.diagnosis import Diagnosis, diagnose, newest

if TYPE_CHECKING:
    from kubernetes.client import BatchV1Api, CoreV1Api, CoreV1Event, V1Job, V1Pod

# What may be raised while the API is asked: its answer, that of dagster-k8s after its own retries, or no answer at all.
API_ERRORS = (ApiException, HTTPError, DagsterK8sUnrecoverableAPIError, DagsterK8sAPIRetryLimitExceeded, OSError)
NOT_FOUND, TIMED_OUT, CONFLICT, TOO_MANY, SERVER_ERROR = 404, 408, 409, 429, 500
UNAUTHORIZED = 401  # some clusters answer so for a moment; dagster-k8s holds the same
PASSING = {UNAUTHORIZED, TIMED_OUT, TOO_MANY}
SECONDS = (5, 20)
DEAD = frozenset({"Succeeded", "Failed"})


class Job(NamedTuple):
    """A Job's name, and the namespace that it is in."""

    name: str
    namespace: str


@dataclass(frozen=True)
class Seen:
    """A Job and its pods as they were at one look; no Job where there is none."""

    job: V1Job | None
    pods: Sequence[V1Pod] = ()
    events: Callable[[], Sequence[CoreV1Event]] = field(default=tuple, compare=False)

    @property
    def lives(self) -> bool:
        """Whether a pod of it may still do something, be it to end."""
        return any(pod.status.phase not in DEAD for pod in self.pods)

    @property
    def hopeless(self) -> bool:
        """Whether its pod can never start, which its own status says."""
        return self.job is not None and diagnose(self.job, self.pods).hopeless

    def diagnosis(self) -> Diagnosis:
        """What is wrong with it, with the help of the events, which are asked for only now."""
        if self.job is None:
            return Diagnosis("unknown", "its Job is gone, and the step never said how it ended")
        return diagnose(self.job, self.pods, self.events())


@dataclass(frozen=True)
class Cluster:
    """The two parts of Kubernetes' API that know Jobs and pods, asked with a limit of time."""

    batch: BatchV1Api
    core: CoreV1Api

    def look(self, job: Job) -> Seen:
        """The Job and its pods now."""
        found: V1Job | None = None
        try:
            found = self.batch.read_namespaced_job(job.name, job.namespace, _request_timeout=SECONDS)
        except ApiException as error:
            if error.status != NOT_FOUND:
                raise
        listed = self.core.list_namespaced_pod(
            job.namespace, label_selector=f"job-name={job.name}", _request_timeout=SECONDS
        )
        return Seen(found, listed.items, lambda: self._events(job, listed.items))

    def _events(self, job: Job, pods: Sequence[V1Pod]) -> list[CoreV1Event]:
        """What was told of the Job and of its newest pod; nothing where this service account may not read events."""
        pod, told = newest(pods), []
        for name in (job.name, *([pod.metadata.name] if pod else [])):
            try:
                told += self.core.list_namespaced_event(
                    job.namespace, field_selector=f"involvedObject.name={name}", _request_timeout=SECONDS
                ).items
            except API_ERRORS:
                continue
        return told


def refusal(error: BaseException) -> str | None:
    """The server's own words, where it refused for good what it was asked; None where asking again may help."""
    answer = getattr(error, "k8s_api_exception", error)
    if not isinstance(answer, ApiException) or answer.status is None:
        return None
    if answer.status in PASSING or answer.status >= SERVER_ERROR:
        return None
    return f"{answer.status} {answer.reason}: {_message(answer)}"


def exists_already(error: BaseException) -> bool:
    """Whether the server refused to create what is there: an earlier request had come through after all."""
    answer = getattr(error, "k8s_api_exception", error)
    return isinstance(answer, ApiException) and answer.status == CONFLICT


def said(error: BaseException) -> str:
    """An error of the API in one line."""
    answer = getattr(error, "k8s_api_exception", error)
    if isinstance(answer, ApiException):
        return f"{answer.status} {answer.reason}"
    return f"{type(answer).__name__}: {answer}"


def _message(answer: ApiException) -> str:
    try:
        return " ".join(str(json.loads(answer.body or "")["message"]).split())
    except (TypeError, ValueError, KeyError):
        return " ".join(str(answer.body or "").split())
