"""The step handler around dagster-k8s's own: it launches no worse, never waits in vain, and says why a pod died."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.executor.step_delegating import CheckStepHealthResult, StepHandler, StepHandlerContext
from dagster_k8s.job import get_job_name_from_run_id

from mlops_assets.compute import borrowed, profiles
from mlops_assets.compute.attempts import CLIMBED, Attempt
from mlops_assets.compute.diagnosis import Diagnosis, ended, interruption, pending_since, stuck
from mlops_assets.compute.run_pod import RunPod
from mlops_assets.compute.watching import API_ERRORS, Cluster, Job, Seen, exists_already, refusal, said

if TYPE_CHECKING:
    from collections.abc import Callable

    from dagster._core.execution.context.system import IStepContext, PlanOrchestrationContext
    from dagster._core.storage.dagster_run import DagsterRun
    from dagster._grpc.types import ExecuteStepArgs
    from dagster_k8s.executor import K8sStepHandler

HEALTHY = CheckStepHealthResult.healthy()
LOOKS_AT_THE_END, LOOKS_AT_THE_END_OF_PODS = 2, 15
START_SOON = frozenset({"image", "configuration", "error"})


@dataclass(frozen=True)
class Patience:
    """How long what is going wrong may still come right.

    `pending` is for a pod that does not run, `broken` for one whose image or configuration keeps it from starting,
    `api` for a Kubernetes API that does not answer.
    """

    pending: timedelta
    broken: timedelta
    api: timedelta


@dataclass
class _Watch:
    """What this process remembers of one attempt between two looks."""

    attempt: Attempt
    launched: bool = False
    unlaunched_since: datetime | None = None
    unanswered_since: datetime | None = None
    ends_seen: int = 0
    stopped_for: Diagnosis | None = None


class _WithTags(StepHandlerContext):
    """A context in which the step has other tags than it was declared with."""

    def __init__(self, context: StepHandlerContext, tags: Mapping[str, Mapping[str, str]]) -> None:
        self._context = context
        self._tags = tags

    @property
    def execute_step_args(self) -> ExecuteStepArgs:
        return self._context.execute_step_args

    @property
    def dagster_run(self) -> DagsterRun:
        return self._context.dagster_run

    @property
    def step_tags(self) -> Mapping[str, Mapping[str, str]]:
        return self._tags

    @property
    def instance(self) -> dg.DagsterInstance:
        return self._context.instance

    def get_step_context(self, step_key: str) -> IStepContext:
        return self._context.get_step_context(step_key)


class ExplainingStepHandler(StepHandler):
    """Launches a Job a step, or runs a small step here, and settles by its cause whatever ends without an outcome.

    The causes are written to the event log here rather than returned: the executor would give every unhealthy step
    the same chance of a retry, and only a message.
    """

    def __init__(
        self,
        inner: K8sStepHandler,
        patience: Patience,
        *,
        small_steps_here: bool = True,
        own_jobs: frozenset[str] = frozenset(),
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Around dagster-k8s's handler. `own_jobs` are ops that executor configuration gives a pod of their own."""
        self._inner = inner
        self._cluster = Cluster(*borrowed.apis(inner))
        self._patience = patience
        self._small_steps_here = small_steps_here
        self._own_jobs = own_jobs
        self._clock = clock
        self._watches: dict[tuple[str, int], _Watch] = {}

    @property
    def name(self) -> str:
        """What the run's log calls it."""
        return "ExplainingStepHandler"

    def begin(self, plan_context: PlanOrchestrationContext) -> None:
        """Take the run, whose small steps are run here."""
        self._run_pod = RunPod(plan_context)

    def launch_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Run the step here, or create its Job. A refusal fails this step alone; no answer is asked again later."""
        attempt = Attempt(step_handler_context)
        watch = self._watch(attempt)
        watch.launched = True
        if self._is_small(attempt):
            yield DagsterEvent.step_worker_starting(
                attempt.in_plan, f'Step "{attempt.step}" runs in the run\'s own pod: it asks for no other.', {}
            )
            self._run_pod.run(attempt.context.execute_step_args, attempt.step, attempt.number)
            return
        yield from self._create(attempt, watch)

    def check_step_health(self, step_handler_context: StepHandlerContext) -> CheckStepHealthResult:
        """Look after a step. Only one that was never launched is unhealthy: the executor then launches it."""
        attempt = Attempt(step_handler_context)
        watch = self._watch(attempt)
        if self._is_small(attempt):
            return self._look_here(attempt, watch)
        if watch.unlaunched_since is not None:
            list(self._create(attempt, watch))
            return HEALTHY
        try:
            seen = self._cluster.look(borrowed.job_of(self._inner, attempt.context))
        except API_ERRORS as error:
            self._no_answer(attempt, watch, error)
            return HEALTHY
        watch.unanswered_since = None
        if seen.job is None and not watch.launched and not attempt.has_started():
            return CheckStepHealthResult.unhealthy(f"step {attempt.step} has no Job, and never began.")
        watch.launched = True
        self._judge(attempt, watch, seen)
        return HEALTHY

    def terminate_step(self, step_handler_context: StepHandlerContext) -> Iterator[DagsterEvent]:
        """Delete the step's Job. A small step is over whenever anybody could ask."""
        attempt = Attempt(step_handler_context)
        if self._is_small(attempt):
            return
        try:
            yield from self._inner.terminate_step(step_handler_context)
        except API_ERRORS as error:
            yield _note(attempt, f"Its Job could not be deleted ({said(error)}): it ends by its own time limit.")

    def explain(self, event: DagsterEvent) -> None:
        """Say why a step's process was interrupted that could still say so, but not why."""
        attempts = [watch.attempt for (step, _), watch in self._watches.items() if step == event.step_key]
        if not attempts or not _is_interruption(event) or self._is_small(attempts[-1]):
            return
        try:
            seen = self._cluster.look(borrowed.job_of(self._inner, attempts[-1].context))
        except API_ERRORS:
            return
        if (found := interruption(seen.pods)) is not None:
            attempts[-1].explain(found, again=event.is_step_up_for_retry)

    def end_all(self) -> None:
        """Delete the Job of every attempt that is under way."""
        for watch in self._watches.values():
            if watch.launched and not watch.attempt.has_ended():
                list(self.terminate_step(watch.attempt.context))

    def _watch(self, attempt: Attempt) -> _Watch:
        return self._watches.setdefault((attempt.step, attempt.number), _Watch(attempt))

    def _profile(self, attempt: Attempt) -> str | None:
        """The profile of this attempt: the one that it climbed to, or the one that it was declared with."""
        declared = attempt.tags.get(profiles.COMPUTE)
        return attempt.run_tags().get(f"{CLIMBED}/{attempt.step}", declared) if attempt.number else declared

    def _is_small(self, attempt: Attempt) -> bool:
        """Whether the step fits into the run's own pod: it says nothing, or its profile says so."""
        if not self._small_steps_here or attempt.in_plan.step.op_name in self._own_jobs:
            return False
        profile = self._profile(attempt)
        return profiles.fits_run_pod(profile) if profile else profiles.CONFIG not in attempt.tags

    def _create(self, attempt: Attempt, watch: _Watch) -> Iterator[DagsterEvent]:
        """Create the Job, with the profile of this attempt."""
        profile = self._profile(attempt)
        context = attempt.context
        if profile and profile != attempt.tags.get(profiles.COMPUTE):
            context = _WithTags(context, {attempt.step: {**attempt.tags, **_as_step_tags(profiles.op_tags(profile))}})
        try:
            yield from self._inner.launch_step(context)
        except API_ERRORS as error:
            if exists_already(error):
                watch.unlaunched_since = None
            elif (words := refusal(error)) is not None:
                attempt.end(_refused(words, profile))
            else:
                yield from self._not_created(attempt, watch, error)
        except dg.DagsterError as error:
            attempt.end(Diagnosis("configuration", f"its Job cannot be made: {error}"))
        else:
            watch.unlaunched_since = None

    def _not_created(self, attempt: Attempt, watch: _Watch, error: BaseException) -> Iterator[DagsterEvent]:
        """Ask again at the next look, for as long as the API's bad moments may last."""
        watch.unlaunched_since = watch.unlaunched_since or self._clock()
        waited = self._clock() - watch.unlaunched_since
        if waited < self._patience.api:
            yield _note(attempt, f"Kubernetes' API did not take its Job ({said(error)}); it is asked again.")
            return
        why = f"Kubernetes' API took no Job for {waited.total_seconds():.0f} s: {said(error)}"
        attempt.end(Diagnosis("unknown", why))

    def _no_answer(self, attempt: Attempt, watch: _Watch, error: BaseException) -> None:
        """Nobody can say how the step is. Its outcome comes through the event log all the same, if it lives."""
        if watch.unanswered_since is None:
            watch.unanswered_since = self._clock()
            _note(attempt, f"Kubernetes' API does not say how its Job is ({said(error)}); it is asked again.")
        waited = self._clock() - watch.unanswered_since
        if waited >= self._patience.api and not attempt.has_ended():
            attempt.end(
                Diagnosis(
                    "unknown", f"Kubernetes' API did not answer for {waited.total_seconds():.0f} s: {said(error)}"
                )
            )

    def _judge(self, attempt: Attempt, watch: _Watch, seen: Seen) -> None:
        """End an attempt whose Job is over or gone without an outcome, and one that waits for too long."""
        if seen.job is None or ended(seen.job):
            watch.ends_seen += 1
            enough = LOOKS_AT_THE_END_OF_PODS if seen.job is None and seen.lives else LOOKS_AT_THE_END
            if watch.ends_seen >= enough and not attempt.has_ended():
                self._settle(attempt, watch.stopped_for or seen.diagnosis())
            return
        watch.ends_seen = 0
        since = pending_since(seen.job, seen.pods)
        if watch.stopped_for is None and since is not None:
            watch.stopped_for = self._overdue(seen, self._clock() - since)
        if watch.stopped_for is not None:
            list(self.terminate_step(attempt.context))

    def _overdue(self, seen: Seen, waited: timedelta) -> Diagnosis | None:
        """What keeps the pod from starting, where it has done so for too long or will for ever."""
        if waited < min(self._patience.broken, self._patience.pending) and not seen.hopeless:
            return None
        found = seen.diagnosis()
        patience = self._patience.broken if found.kind in START_SOON else self._patience.pending
        return stuck(found, waited.total_seconds()) if waited >= patience or found.hopeless else None

    def _settle(self, attempt: Attempt, found: Diagnosis) -> None:
        profile = self._profile(attempt)
        attempt.end(found, profile=profile, climb_to=_bigger(found, profile))

    def _look_here(self, attempt: Attempt, watch: _Watch) -> CheckStepHealthResult:
        """A step of this process that is over left an outcome; one of an earlier process is found cut off."""
        if self._run_pod.has_run(attempt.step, attempt.number):
            watch.ends_seen += 1
            if watch.ends_seen >= LOOKS_AT_THE_END and not attempt.has_ended():
                error = self._run_pod.broke_with(attempt.step, attempt.number)
                why = type(error).__name__ if error else "it left no outcome"
                attempt.end(Diagnosis("error", f"it could not be run in the run's own pod: {why}"))
            return HEALTHY
        if not attempt.has_started():
            return CheckStepHealthResult.unhealthy(f"step {attempt.step} had not begun when its run's pod ended.")
        if not attempt.has_ended():
            self._cut_off(attempt)
        return HEALTHY

    def _cut_off(self, attempt: Attempt) -> None:
        """Start a step again that ran in a run pod that is gone, but not as it was where it had filled its memory."""
        found = self._death_of_run_pod(attempt)
        profile = self._profile(attempt)
        why = f"it ran in its run's own pod, which is gone ({found.sentence})"
        if found.kind == "oom":
            attempt.end(Diagnosis("oom", why), profile=profile, climb_to=_bigger(found, profile))
        else:
            attempt.end(Diagnosis("evicted", why), anyway=True)

    def _death_of_run_pod(self, attempt: Attempt) -> Diagnosis:
        """Why the run's pod before this one died."""
        instance, run_id = attempt.context.instance, attempt.context.dagster_run.run_id
        resumed = instance.count_resume_run_attempts(run_id)
        name = get_job_name_from_run_id(run_id, resumed - 1 if resumed > 1 else None)
        namespace = borrowed.job_of(self._inner, attempt.context).namespace
        try:
            return self._cluster.look(Job(name, namespace)).diagnosis()
        except API_ERRORS as error:
            return Diagnosis("unknown", f"Kubernetes' API did not say why: {said(error)}")


def _is_interruption(event: DagsterEvent) -> bool:
    """Whether a step ended, for now or for good, because its process was asked to end."""
    if not (event.is_step_failure or event.is_step_up_for_retry):
        return False
    data = event.step_failure_data if event.is_step_failure else event.step_retry_data
    error = data.error
    while error is not None:
        if error.cls_name == DagsterExecutionInterruptedError.__name__:
            return True
        error = error.cause
    return False


def _refused(words: str, profile: str | None) -> Diagnosis:
    asked = f" (profile {profile})" if profile else ""
    if "exceeded quota" in words:
        return Diagnosis("unschedulable", f"the namespace's quota is reached{asked}: {words}")
    return Diagnosis("configuration", f"Kubernetes refuses its Job{asked}: {words}")


def _as_step_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    """Tags as Dagster keeps them: text, which for anything else is JSON."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in tags.items()}


def _bigger(found: Diagnosis, profile: str | None) -> str | None:
    """The profile that may cure this, where there is one."""
    return profiles.next_up(profile) if found.kind == "oom" and profile else None


def _note(attempt: Attempt, text: str) -> DagsterEvent:
    return DagsterEvent.engine_event(attempt.in_plan, text, EngineEventData())
