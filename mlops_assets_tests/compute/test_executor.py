"""Real runs under `kubernetes_executor`, whose Jobs live and die as an API on loopback plays it."""

from __future__ import annotations

import os
import signal
import threading
import time

import dagster as dg
import pytest
import yaml
from dagster._core.execution.api import create_execution_plan, execute_run_iterator

from mlops_assets.compute.executor import kubernetes_executor
from mlops_assets.compute.profiles import op_tags
from mlops_assets_tests import homes
from mlops_assets_tests.compute.apiserver import Api, ago, pod, serving, work
from mlops_assets_tests.compute.scripts import (
    NO_ROOM,
    OOM,
    PREEMPTED,
    REPLACED,
    interrupted,
    refused,
    terminated,
    waits,
)

STORAGE = {"module": "mlops_assets.sqlite_storage", "class": "SqliteStorage"}
QUICK = {"check_interval_seconds": 0, "job_image": "mlops-assets:1"}


@dg.op(tags=op_tags("cpu-large"), out=dg.Out(dg.Nothing))
def elsewhere() -> None:
    """A step with a pod of its own."""


@dg.op(ins={"after": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing))
def here() -> None:
    """A step that asks for nothing."""


@dg.job(executor_def=kubernetes_executor)
def chain() -> None:
    """Two steps in two places."""
    here(elsewhere())


@dg.op(tags=op_tags("gpu"))
def climbing() -> None:
    """A step that holds an accelerator."""


@dg.op(tags=op_tags("cpu-large"), retry_policy=dg.RetryPolicy(max_retries=2))
def twice() -> None:
    """A step that may be tried three times."""


@dg.op
def apart() -> None:
    """A step that depends on nothing."""


@dg.op
def endless() -> None:
    """A step that goes on until it is interrupted."""
    while True:
        time.sleep(0.01)


@dg.job(executor_def=kubernetes_executor)
def unending() -> None:
    """One step in the run's pod."""
    endless()


SIGNALLED = threading.Event()


@dg.op
def brief() -> None:
    """A step that ends after its pod was asked to."""
    assert SIGNALLED.wait(60)


@dg.op(tags={"dagster-k8s/config": {"container_confg": {}}})
def misspelt() -> None:
    """A step whose tag dagster-k8s refuses."""


@dg.job(executor_def=kubernetes_executor)
def short() -> None:
    """One step in the run's pod."""
    brief()


@dg.job(executor_def=kubernetes_executor)
def doomed() -> None:
    """Two steps that die of different causes, and one that is refused before it has a pod."""
    elsewhere()
    twice()
    misspelt()


@dg.job(executor_def=kubernetes_executor)
def climber() -> None:
    """One step that may grow."""
    climbing()


@dg.job(executor_def=kubernetes_executor)
def patient() -> None:
    """One step that is retried."""
    twice()


@dg.job(executor_def=kubernetes_executor)
def small() -> None:
    """One step in the run's pod."""
    apart()


@dg.job(executor_def=kubernetes_executor)
def beside() -> None:
    """Two steps that have nothing to do with each other."""
    elsewhere()
    apart()


def memory(job: dict) -> str:
    """What the Job's container may use."""
    return job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]


@pytest.fixture
def quick_retries(monkeypatch):
    """dagster-k8s waits ten seconds between its own tries."""
    monkeypatch.setattr("dagster_k8s.client.time.sleep", lambda seconds: None)


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """One server and one instance for all that happens here: each test has runs of its own."""
    folder = tmp_path_factory.mktemp("dagster")
    served = Api()
    with pytest.MonkeyPatch.context() as patch, serving(served, folder) as kubeconfig:
        patch.setenv("DAGSTER_STEP_DELEGATING_EXECUTOR_SLEEP_SECONDS", "0.02")
        homes.without_waiting_for_the_disk()
        launcher = {
            "service_account_name": "runs",
            "instance_config_map": "instance",
            "dagster_home": str(folder),
            "job_namespace": "ml",
            "load_incluster_config": False,
            "kubeconfig_file": str(kubeconfig),
        }
        config = {
            "telemetry": {"enabled": False},
            "storage": {"custom": {**STORAGE, "config": {"base_dir": str(folder)}}},
            "run_launcher": {"module": "dagster_k8s", "class": "K8sRunLauncher", "config": launcher},
            "run_monitoring": {"enabled": True, "max_resume_run_attempts": 1},
        }
        (folder / "dagster.yaml").write_text(yaml.safe_dump(config))
        with dg.DagsterInstance.from_config(str(folder)) as made:
            yield served, made


@pytest.fixture
def api(opened) -> Api:
    """The server, as empty as at first."""
    served, _ = opened
    served.__init__()
    return served


@pytest.fixture
def instance(opened) -> dg.DagsterInstance:
    """The instance whose steps it plays."""
    return opened[1]


def run(instance: dg.DagsterInstance, job: dg.JobDefinition, **config: object) -> dg.JobExecutionResult:
    return dg.execute_job(dg.reconstructable(job), instance, run_config={"execution": {"config": {**QUICK, **config}}})


def test_a_step_with_a_profile_gets_a_job_and_one_without_runs_in_the_run_pod(api, instance):
    with run(instance, chain) as result:
        assert result.success
    assert api.steps() == ["elsewhere"]


def test_a_step_out_of_memory_is_launched_again_with_the_bigger_profile(api, instance):
    api.scripts["climbing"] = [OOM, OOM]
    with run(instance, climber) as result:
        assert not result.success
        failure = result.failure_data_for_node("climbing")
    assert [memory(job) for job in api.created] == ["24Gi", "180Gi"]
    said = failure.user_failure_data
    assert said.description == (
        "out of memory: container dagster was OOMKilled (exit 137); its memory limit is 180Gi "
        f"(pod {api.created[1]['metadata']['name']}-x on node gpu-1). No profile is bigger than gpu-4x."
    )
    assert said.metadata["step_pod"].value == "oom"
    assert said.metadata["node"].value == "gpu-1"
    tags = instance.get_run_by_id(result.run_id).tags
    assert tags["mlops/step_failure"] == "oom"
    assert tags["mlops/step_failure/climbing"] == said.description
    assert tags["mlops/step_retried/climbing"] == "oom"
    assert tags["mlops/step_profile/climbing"] == "gpu-4x"


def test_a_preempted_step_is_tried_again_as_often_as_its_policy_allows(api, instance):
    api.scripts["twice"] = [PREEMPTED, PREEMPTED, PREEMPTED]
    with run(instance, patient) as result:
        assert not result.success
        assert "preempted: the scheduler gave its place" in result.failure_data_for_node("twice").error.message
    assert len(api.created) == 3
    assert instance.get_run_by_id(result.run_id).tags["mlops/step_retried/twice"] == "preempted, preempted"


def test_a_pod_that_kubernetes_replaced_does_not_hang_the_run(api, instance):
    api.scripts["twice"] = [REPLACED, work]
    with run(instance, patient) as result:
        assert result.success
    assert len(api.created) == 2


@pytest.mark.parametrize("kind", ["image", "configuration"])
def test_what_cannot_start_is_stopped_soon_and_never_tried_again(kind, api, instance):
    reason, message = {
        "image": ("ImagePullBackOff", 'Back-off pulling image "mlops-assets:1"'),
        "configuration": ("CreateContainerConfigError", 'secret "mlflow-creds" not found'),
    }[kind]
    api.scripts["twice"] = [waits(refused(reason, message), age=121)]
    with run(instance, patient) as result:
        said = result.failure_data_for_node("twice").user_failure_data
    assert (said.metadata["step_pod"].value, len(api.created), api.deleted[0]) == (
        kind,
        1,
        api.created[0]["metadata"]["name"],
    )
    assert message in said.description


def test_a_pod_without_a_place_is_waited_for_until_the_limit_and_then_given_up(api, instance):
    api.scripts["twice"] = [waits(NO_ROOM, age=31)]
    with run(instance, patient, pending_timeout_seconds=30) as result:
        said = result.failure_data_for_node("twice").user_failure_data
    assert said.metadata["step_pod"].value == "unschedulable"
    assert "0/2 nodes are available: 2 Insufficient nvidia.com/gpu." in said.description
    assert len(api.created) == 1


def test_a_job_that_kueue_holds_back_is_waited_for_however_long(api, instance):
    def let_go(job):
        job["status"]["startTime"] = ago(0)
        job["spec"].pop("suspend")
        work(api, job)

    def held(api, job):
        job["spec"]["suspend"] = True
        job["metadata"]["creationTimestamp"] = job["status"]["startTime"] = ago(100000)
        threading.Timer(0.5, let_go, [job]).start()

    api.scripts["twice"] = [held]
    with run(instance, patient) as result:
        assert result.success


@pytest.mark.parametrize("fault", [(503, "try later"), (429, "too many"), (500, "etcd"), (0, "")])
def test_a_bad_moment_of_the_api_costs_time_and_nothing_else(fault, api, instance, quick_retries):
    api.faults = [("POST", *fault)] * 5 + [("GET", *fault)] * 3
    with run(instance, chain) as result:
        assert result.success
    assert api.steps() == ["elsewhere"]


def test_an_api_that_never_answers_ends_the_step_after_the_patience_for_it(api, instance, quick_retries):
    api.faults = [("POST", 503, "down")] * 100000
    with run(instance, chain, api_patience_seconds=0) as result:
        said = result.failure_data_for_node("elsewhere").user_failure_data
    assert said.metadata["step_pod"].value == "unknown"
    assert "took no Job" in said.description


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (422, "Job.batch is invalid: spec.template.spec.containers[0].resources.limits[gpu]", "configuration"),
        (403, 'jobs.batch is forbidden: User "x" cannot create resource', "configuration"),
        (403, "exceeded quota: gpus, requested: count/jobs.batch=1, used: 8, limited: 8", "unschedulable"),
    ],
)
def test_what_kubernetes_refuses_fails_that_step_alone_with_its_words_and_the_profile(
    status, words, kind, api, instance
):
    api.faults = [("POST", status, words)]
    with run(instance, beside) as result:
        said = result.failure_data_for_node("elsewhere").user_failure_data
        assert result.output_for_node is not None
        done = {event.step_key for event in result.all_events if event.is_step_success}
    assert (said.metadata["step_pod"].value, done) == (kind, {"apart"})
    assert words in said.description
    assert "profile cpu-large" in said.description


def test_a_job_that_somebody_deleted_is_launched_again(api, instance):
    api.scripts["twice"] = [lambda api, job: api.jobs.pop(job["metadata"]["name"]), work]
    with run(instance, patient) as result:
        assert result.success
    assert len(api.created) == 2


def test_a_failed_pod_alone_is_not_the_end_of_a_job_that_goes_on(api, instance):
    def replaced(api, job):
        api.pods[job["metadata"]["name"]] = [pod(job, {"phase": "Failed"})]
        job["status"]["failed"] = 1
        threading.Timer(0.3, lambda: work(api, job)).start()

    api.scripts["twice"] = [replaced]
    with run(instance, patient) as result:
        assert result.success
    assert len(api.created) == 1


def interrupt_once_begun(instance: dg.DagsterInstance, run_id: str, step: str) -> None:
    """SIGTERM for this process once a step of the run began, as for a pod that is deleted."""
    while not begun(instance, run_id, step):
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)


def begun(instance: dg.DagsterInstance, run_id: str, step: str) -> bool:
    kinds = {dg.DagsterEventType.STEP_START, dg.DagsterEventType.STEP_WORKER_STARTING}
    return any(log.step_key == step for log in instance.all_logs(run_id, of_type=kinds))


def create(instance: dg.DagsterInstance, job: dg.JobDefinition) -> dg.DagsterRun:
    """A run that nobody executes yet."""
    config = {"execution": {"config": QUICK}}
    plan = create_execution_plan(job, run_config=config)
    return instance.create_run_for_job(
        job,
        execution_plan=plan,
        run_config=config,
        status=dg.DagsterRunStatus.STARTING,
        job_code_origin=dg.reconstructable(job).get_python_origin(),
    )


def kinds(instance: dg.DagsterInstance, run_id: str, step: str) -> list[str]:
    """What happened to a step, in order."""
    logs = instance.all_logs(run_id)
    wanted = ("STEP_START", "STEP_RESTARTED", "STEP_UP_FOR_RETRY", "STEP_SUCCESS", "STEP_FAILURE")
    found = [log.dagster_event for log in logs if log.dagster_event and log.step_key == step]
    return [event.event_type_value for event in found if event.event_type_value in wanted]


def test_a_small_step_is_interrupted_when_its_run_is_stopped(api, instance):
    run = create(instance, unending)

    def stop() -> None:
        while not begun(instance, run.run_id, "endless"):
            time.sleep(0.02)
        instance.report_run_canceling(run)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    list(execute_run_iterator(dg.reconstructable(unending), run, instance))
    assert kinds(instance, run.run_id, "endless") == ["STEP_START", "STEP_FAILURE"]


def test_a_run_that_is_stopped_ends_its_jobs_although_it_could_be_resumed(api, instance):
    run = create(instance, climber)
    api.scripts["climbing"] = [waits({})]

    def stop() -> None:
        while not api.created:
            time.sleep(0.02)
        instance.report_run_canceling(run)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    list(execute_run_iterator(dg.reconstructable(climber), run, instance))
    assert api.created[0]["metadata"]["name"] in api.deleted


def test_a_run_whose_pod_is_evicted_keeps_its_jobs_for_when_it_is_resumed(api, instance):
    run = create(instance, climber)
    api.scripts["climbing"] = [waits({})]
    threading.Thread(target=interrupt_once_begun, args=(instance, run.run_id, "climbing"), daemon=True).start()
    list(execute_run_iterator(dg.reconstructable(climber), run, instance))
    assert api.deleted == []
    work(api, api.created[0])
    list(execute_run_iterator(dg.reconstructable(climber), instance.get_run_by_id(run.run_id), instance, True))
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.SUCCESS
    assert len(api.created) == 1


@pytest.mark.parametrize(
    ("death", "words", "again"),
    [
        (terminated("OOMKilled", 137), "out of memory: it ran in its run's own pod", False),
        (terminated("Error", 137), "evicted: it ran in its run's own pod, which is gone (its process broke off", True),
        (None, "evicted: it ran in its run's own pod, which is gone (of unknown cause", True),
    ],
)
def test_a_small_step_that_died_with_its_runs_pod_is_begun_again_unless_it_filled_it(
    death, words, again, api, instance
):
    run = create(instance, small)
    name = f"dagster-run-{run.run_id}"
    if death:
        api.jobs[name] = {"metadata": {"name": name}, "spec": {"template": {"spec": {"containers": []}}}, "status": {}}
        container = {"name": "dagster", "resources": {"limits": {"memory": "1Gi"}}}
        api.pods[name] = [
            {"metadata": {"name": "p"}, "spec": {"containers": [container]}, "status": {"containerStatuses": death}}
        ]
    for kind, step in (("PIPELINE_START", None), ("STEP_START", "apart")):
        instance.report_dagster_event(dg.DagsterEvent(kind, job_name="small", step_key=step), run.run_id)
    list(execute_run_iterator(dg.reconstructable(small), instance.get_run_by_id(run.run_id), instance, True))
    again_or_not = ["STEP_UP_FOR_RETRY", "STEP_RESTARTED", "STEP_SUCCESS"] if again else ["STEP_FAILURE"]
    assert kinds(instance, run.run_id, "apart") == ["STEP_START", *again_or_not]
    ended = instance.get_run_by_id(run.run_id)
    assert ended.status == (dg.DagsterRunStatus.SUCCESS if again else dg.DagsterRunStatus.FAILURE)
    told = [log.message for log in instance.all_logs(run.run_id)]
    assert any(words in message for message in told)


def test_a_small_step_that_had_not_begun_when_its_runs_pod_died_is_simply_run(api, instance):
    run = create(instance, small)
    instance.report_dagster_event(dg.DagsterEvent("PIPELINE_START", job_name="small"), run.run_id)
    list(execute_run_iterator(dg.reconstructable(small), instance.get_run_by_id(run.run_id), instance, True))
    assert kinds(instance, run.run_id, "apart") == ["STEP_START", "STEP_SUCCESS"]


@pytest.mark.parametrize(
    ("again", "mark"), [(True, "mlops/step_retried/twice"), (False, "mlops/step_failure/elsewhere")]
)
def test_a_step_that_could_still_say_that_it_was_interrupted_is_told_why(again, mark, api, instance):
    step, job = ("twice", patient) if again else ("elsewhere", chain)
    api.scripts[step] = [interrupted(again)]
    with run(instance, job) as result:
        assert result.success is again
    assert instance.get_run_by_id(result.run_id).tags[mark].startswith("preempted")
    told = [log.message for log in instance.all_logs(result.run_id)]
    assert any(text.startswith("preempted: the scheduler gave its place to a pod of higher priority") for text in told)


def test_a_small_step_may_end_although_its_runs_pod_is_asked_to_and_is_not_run_again(api, instance):
    run = create(instance, short)
    SIGNALLED.clear()

    def evict() -> None:
        interrupt_once_begun(instance, run.run_id, "brief")
        SIGNALLED.set()

    threading.Thread(target=evict, daemon=True).start()
    list(execute_run_iterator(dg.reconstructable(short), run, instance))
    assert kinds(instance, run.run_id, "brief") == ["STEP_START", "STEP_SUCCESS"]
    assert not instance.get_run_by_id(run.run_id).is_finished
    list(execute_run_iterator(dg.reconstructable(short), instance.get_run_by_id(run.run_id), instance, True))
    assert kinds(instance, run.run_id, "brief") == ["STEP_START", "STEP_SUCCESS"]
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.SUCCESS


def test_each_cause_is_on_the_run_and_each_step_has_its_own(api, instance):
    api.scripts |= {"elsewhere": [OOM], "twice": [waits(refused("InvalidImageName", "no such name"))]}
    with run(instance, doomed) as result:
        assert not result.success
    tags = instance.get_run_by_id(result.run_id).tags
    assert tags["mlops/step_failure"] == "configuration, image, oom"
    assert tags["mlops/step_failure/elsewhere"].startswith("out of memory")
    assert tags["mlops/step_failure/twice"].startswith("its image cannot be had")
    assert tags["mlops/step_failure/misspelt"].startswith("wrongly configured: its Job cannot be made")
    assert "container_confg" in tags["mlops/step_failure/misspelt"]
