"""Small steps run inside the run's own pod, one after the other, where a pod each would cost more than their work.

Each runs on a thread of its own while the executor waits for it: a signal to the run is then the executor's to answer,
and not raised inside the step, which would fail it although the run is resumed. Nothing else runs meanwhile: Dagster
sets logging up anew for each step, which deadlocks with any other thread that logs an event.
"""

from __future__ import annotations

import ctypes
import threading
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from dagster._core.execution.api import create_execution_plan, execute_plan_iterator
from dagster._utils.interrupts import check_captured_interrupt

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._grpc.types import ExecuteStepArgs

LOOK_SECONDS = 0.2


class RunPod:
    """The small steps of one run, in its own process."""

    def __init__(self, plan_context: PlanOrchestrationContext) -> None:
        """Nothing of this run was run here yet."""
        self._plan_context = plan_context
        self._over: dict[tuple[str, int], BaseException | None] = {}

    def run(self, args: ExecuteStepArgs, step: str, attempt: int) -> None:
        """Run an attempt of a step to its end. What comes of it stands in the event log.

        Where the run is stopped it is interrupted. Where the run will be resumed it may go on for as long as its pod is
        let: what it finishes need not be done again, and what is cut off is found when the run is resumed.
        """
        errors: list[BaseException | None] = [None]
        thread = threading.Thread(target=self._run, args=(args, step, errors), name=f"step {step}", daemon=True)
        thread.start()
        interrupted = False
        while thread.is_alive():
            thread.join(LOOK_SECONDS)
            if not interrupted and check_captured_interrupt() and not self._will_resume():
                interrupted = _interrupt(thread)
        self._over[step, attempt] = errors[0]

    def has_run(self, step: str, attempt: int) -> bool:
        """Whether this process ran the attempt; one that it did not run was in a pod that is gone."""
        return (step, attempt) in self._over

    def broke_with(self, step: str, attempt: int) -> BaseException | None:
        """The error that kept an attempt from being run at all; what the step itself raised is in the event log."""
        return self._over[step, attempt]

    def _will_resume(self) -> bool:
        instance, run_id = self._plan_context.instance, self._plan_context.run_id
        return instance.run_will_resume(run_id) and not is_cancelled(instance, run_id)

    def _run(self, args: ExecuteStepArgs, step: str, errors: list[BaseException | None]) -> None:
        context = self._plan_context
        job, run = context.reconstructable_job, context.dagster_run
        try:
            plan = create_execution_plan(
                job, run.run_config, step_keys_to_execute=[step], known_state=args.known_state, tags=run.tags
            )
            events = execute_plan_iterator(
                plan, job, run, context.instance, retry_mode=args.retry_mode, run_config=run.run_config
            )
            for _ in events:
                pass
        except BaseException as error:  # noqa: BLE001 - as a process would end with any: whoever waits is told of it
            errors[0] = error


def is_cancelled(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether somebody stopped the run; Dagster's own `run_will_resume` does not look at that."""
    run = instance.get_run_by_id(run_id)
    return run is not None and run.status in (dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED)


def _interrupt(thread: threading.Thread) -> bool:
    """Raise Dagster's interruption in a thread, where it runs Python next."""
    error = ctypes.py_object(DagsterExecutionInterruptedError)
    return bool(ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), error))
