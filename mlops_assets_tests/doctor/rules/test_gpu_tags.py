import pytest

from mlops_assets_tests.doctor.writing import found, marked

TAGS = '{"dagster-k8s/config": {"container_config": {"resources": {"limits": {"nvidia.com/gpu": 1}}}}}'
FOUND = {
    "on an asset": f"import dagster as dg\n\n@dg.asset(op_tags={TAGS})  # <-\ndef model(): ...\n",
    "on an op, under another name": f"from dagster import op as step\n\n@step(tags={TAGS})  # <-\ndef train(): ...\n",
    "without a GPU": 'import dagster as dg\n\n@dg.op(tags={"dagster-k8s/config": {}})  # <-\ndef train(): ...\n',
    "a bare tag": 'import dagster as dg\n\n@dg.op(tags={"nvidia.com/gpu": "1"})  # <-\ndef train(): ...\n',
    "from a constant of another module": {
        "small/tags.py": """
            KEY = "dagster-k8s/config"
            LIMITS = {"limits": {"nvidia.com/gpu": 1}}
            GPU = {KEY: LIMITS}
            """,
        "small/assets.py": """
            import dagster as dg
            from small import tags

            @dg.asset(op_tags=tags.GPU)  # <-
            def model(): ...
            """,
    },
}


@pytest.mark.parametrize("files", FOUND.values(), ids=FOUND)
def test_resources_that_nobody_reads_are_found(tmp_path, files):
    assert found(tmp_path, files) == marked("gpu-tag", files)


@pytest.mark.parametrize(
    "more",
    [
        {"small/executor.py": "from dagster_k8s import k8s_job_executor as executor\n"},
        {"small/executor.py": "import dagster_celery_k8s\nexecutor = dagster_celery_k8s.celery_k8s_job_executor\n"},
        {"run.yaml": "execution:\n  k8s_job_executor: {}\n"},
    ],
)
def test_with_an_executor_for_kubernetes_they_are_not(tmp_path, more):
    files = {"small/assets.py": f"import dagster as dg\n\n@dg.asset(op_tags={TAGS})\ndef model(): ...\n"}
    assert found(tmp_path, files | more) == []


@pytest.mark.parametrize(
    "text",
    [f"job = dg.define_asset_job('train', tags={TAGS})", "@dg.op(tags={'team': 'gpu'})\ndef train(): ..."],
    ids=["on a job, whose pod the launcher starts", "another tag"],
)
def test_tags_of_jobs_and_other_tags_are_not(tmp_path, text):
    assert found(tmp_path, f"import dagster as dg\n\n{text}\n") == []
