"""What the event log knows of one attempt of a step, and how its end is written there: a failure, or another try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.events import DagsterEvent, DagsterEventType, EngineEventData
from dagster._core.execution.plan.objects import StepFailureData, StepRetryData, UserFailureData
from dagster._utils.error import SerializableErrorInfo

from mlops_assets.compute.diagnosis import FAILURE, POD, RETRIED, WHAT_TO_DO, Diagnosis, Kind

if TYPE_CHECKING:
    from dagster._core.execution.context.system import IStepContext
    from dagster._core.executor.step_delegating import StepHandlerContext

BY_POLICY: frozenset[Kind] = frozenset({"preempted", "evicted", "error", "unknown"})
STARTS = {DagsterEventType.STEP_START, DagsterEventType.STEP_RESTARTED}
ENDS = {DagsterEventType.STEP_SUCCESS, DagsterEventType.STEP_FAILURE, DagsterEventType.STEP_SKIPPED}
AGAIN = DagsterEventType.STEP_UP_FOR_RETRY
CLIMBED = "mlops/step_profile"
MOST_TAGS = 20


@dataclass(frozen=True)
class Attempt:
    """One attempt of one step, by the context in which the executor speaks of it. The first has number 0."""

    context: StepHandlerContext

    @property
    def step(self) -> str:
        """The step's key."""
        return (self.context.execute_step_args.step_keys_to_execute or [""])[0]

    @property
    def number(self) -> int:
        """How often the step was tried before."""
        state = self.context.execute_step_args.known_state
        return state.get_retry_state().get_attempt_count(self.step) if state else 0

    @property
    def in_plan(self) -> IStepContext:
        """The step as a part of the run's plan."""
        return self.context.get_step_context(self.step)

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags that the step was declared with."""
        return self.context.step_tags[self.step]

    def run_tags(self) -> Mapping[str, str]:
        """The tags of the run as they are now."""
        run = self.context.instance.get_run_by_id(self.context.dagster_run.run_id)
        return run.tags if run else {}

    def has_started(self) -> bool:
        """Whether the log shows that this attempt began: a start after the last time that another try was asked for."""
        kinds = [entry.get_dagster_event().event_type for entry in self._entries(STARTS | {AGAIN})]
        return bool(kinds) and kinds[-1] in STARTS

    def has_ended(self) -> bool:
        """Whether the log shows how this attempt ended: the step itself said it, or somebody for it."""
        return bool(self._entries(ENDS)) or len(self._entries({AGAIN})) > self.number

    def end(
        self, found: Diagnosis, *, profile: str | None = None, climb_to: str | None = None, anyway: bool = False
    ) -> None:
        """Write why the attempt ended, and either that the step failed or that it is tried again.

        It is tried again with a bigger profile, where there is one to climb to; `anyway`, where it lost its place
        through no fault of its own; else by the asset's own policy, for causes that another try may not meet.
        """
        wait = self._wait(found, climb_to, anyway=anyway)
        sentence = f"{found.sentence}. {self._what_follows(found, profile, climb_to, again=wait is not None)}".strip()
        if climb_to:
            self.context.instance.add_run_tags(self.context.dagster_run.run_id, {f"{CLIMBED}/{self.step}": climb_to})
        self._tag(found, sentence, again=wait is not None)
        error = SerializableErrorInfo(message=sentence, stack=[], cls_name="StepPodError")
        if wait is not None:
            DagsterEvent.engine_event(self.in_plan, sentence, EngineEventData(metadata=_metadata(found)))
            DagsterEvent.step_retry_event(self.in_plan, StepRetryData(error=error, seconds_to_wait=wait or None))
            return
        failure = UserFailureData(label=POD, description=sentence, metadata=_metadata(found))
        message = f'Execution of step "{self.step}" failed: {sentence}'
        DagsterEvent.step_failure_event(self.in_plan, StepFailureData(error, failure), message)

    def explain(self, found: Diagnosis, *, again: bool) -> None:
        """Say why an attempt was interrupted that told its own end, and could not know the cause."""
        sentence = f"{found.sentence}."
        self._tag(found, sentence, again=again)
        DagsterEvent.engine_event(self.in_plan, sentence, EngineEventData(metadata=_metadata(found)))

    def _wait(self, found: Diagnosis, climb_to: str | None, *, anyway: bool) -> float | None:
        """Seconds until the next try; None where there is none."""
        policy = self.in_plan.op_retry_policy
        if self.in_plan.retry_mode.disabled:
            return None
        if climb_to or anyway:
            return 0.0
        if policy is None or found.kind not in BY_POLICY or self.number >= policy.max_retries:
            return None
        return float(policy.calculate_delay(self.number + 1))

    def _what_follows(self, found: Diagnosis, profile: str | None, climb_to: str | None, *, again: bool) -> str:
        if climb_to and again:
            return f"It is tried again with the profile {climb_to}."
        if again:
            return f"It is tried again (attempt {self.number + 2})."
        if found.kind == "oom":
            return f"No profile is bigger than {profile}." if profile else "Give it a compute profile with more memory."
        policy = self.in_plan.op_retry_policy
        if found.kind in BY_POLICY and policy is not None:
            return f"It is not tried again after {self.number + 1} attempts."
        return WHAT_TO_DO.get(found.kind, "")

    def _tag(self, found: Diagnosis, sentence: str, *, again: bool) -> None:
        """Put the cause on the run, where lists of runs are filtered by it, and the detail under the step's name."""
        tags, mark = self.run_tags(), f"{RETRIED if again else FAILURE}/{self.step}"
        new: dict[str, str] = {}
        if again:
            new[mark] = ", ".join(filter(None, [tags.get(mark), found.kind]))
        else:
            kinds = {*filter(None, tags.get(FAILURE, "").split(", ")), found.kind}
            new |= {FAILURE: ", ".join(sorted(kinds)), mark: sentence}
        if sum(name.startswith((f"{FAILURE}/", f"{RETRIED}/")) for name in tags) >= MOST_TAGS:
            new.pop(mark)
        self.context.instance.add_run_tags(self.context.dagster_run.run_id, new)

    def _entries(self, kinds: set[DagsterEventType]) -> list[dg.EventLogEntry]:
        """What the log holds of the step, in order."""
        logs = self.context.instance.all_logs(self.context.dagster_run.run_id, of_type=kinds)
        return [entry for entry in logs if entry.step_key == self.step]


def _metadata(found: Diagnosis) -> dict[str, dg.MetadataValue]:
    facts = {
        name: dg.MetadataValue.int(each) if isinstance(each, int) else dg.MetadataValue.text(each)
        for name, each in found.facts.items()
    }
    return {POD: dg.MetadataValue.text(found.kind), **facts}
