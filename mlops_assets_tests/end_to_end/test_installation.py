"""A shared installation lives through restarts: PostgreSQL and S3, code servers and a daemon that die in the middle."""

from typing import NamedTuple

import dagster as dg
import pytest

from mlops_assets import settings
from mlops_assets.instance import prepare
from mlops_assets.lifecycle.common import VALIDATED
from mlops_assets.ml.planning import TRAINING, VALIDATION
from mlops_assets.ml.registration import identity
from mlops_assets.ml.training import Candidate
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import Registry
from mlops_assets_tests import toy
from mlops_assets_tests.end_to_end import shop
from mlops_assets_tests.end_to_end.installation import installation
from mlops_assets_tests.homes import instance_at
from mlops_assets_tests.toy import Workshop

pytestmark = pytest.mark.timeout(1500)
MONTHS, COMING = ("2024-01", "2024-02", "2024-03"), "2024-04"


class Life(NamedTuple):
    """What is left of a life: its records, and what each of its runs did."""

    candidate: Candidate
    validated: dict[str, ValidatedPartition]


def life(root: str) -> Life:
    """What is kept under a root."""
    records = Records(root=root)
    return Life(records.get(Candidate, "toy", "trained_model"), records.all(ValidatedPartition, "toy", VALIDATED))


@pytest.fixture(scope="module")
def lived(tmp_path_factory):
    """Three deliveries and then one more; in the middle of both runs the code server dies, in the first the daemon."""
    with installation(tmp_path_factory.mktemp("shared")) as here:
        prepare()
        with dg.DagsterInstance.get() as instance:
            for month in MONTHS:
                toy.deliver(here.landing, month)
            here.start_code_server()
            here.start_daemon()
            here.stop_before("trained_model")
            here.wait_until_stopped_before("trained_model")
            here.kill_daemon()
            here.kill_code_server()
            here.start_code_server()
            here.start_daemon()
            here.go_on("trained_model")
            here.wait_for_runs(instance, 1)
            here.stop_before("drift_report")
            toy.deliver(here.landing, COMING)
            here.wait_until_stopped_before("drift_report")
            here.kill_code_server()
            here.start_code_server()
            here.go_on("drift_report")
            here.wait_for_runs(instance, 2)
            yield here, instance


def test_every_delivery_is_worked_on_once_although_code_servers_and_the_daemon_died(lived):
    _, instance = lived
    runs = instance.get_runs()
    assert [run.status.value for run in runs] == ["SUCCESS", "SUCCESS"]
    first, last = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
    assert (runs[1].tags[first], runs[1].tags[last]) == ("2024-01-01", "2024-03-01")
    assert runs[0].tags["dagster/partition"] == f"{COMING}-01"
    for run in runs:
        started = [entry.step_key for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)]
        assert len(started) == len(set(started)), "no step began twice"


def test_one_version_is_released_once_in_the_ledger_and_the_registry(lived):
    root = settings.home()
    ledger = Ledger(uri=settings.ledger(), anchors=settings.ledger_anchors())
    assert [link.entry.kind for link in ledger.links("toy")] == ["released", "confirmed"]
    assert ledger.verify() is None
    registry = Registry(root=root, tracking_uri=settings.tracking_uri(), ledger=settings.ledger())
    assert [version.number for version in registry.versions("toy")] == [1]
    assert registry.champion("toy").candidate == identity(life(root).candidate)


def test_the_same_deliveries_give_the_same_rows_and_the_same_model_as_on_one_machine(lived, tmp_path):
    here, _ = lived
    with instance_at(tmp_path) as instance:
        alone = Workshop(here.folder, instance, shop.DECLARED)
        (here.folder / "mlflow.db").write_bytes((tmp_path / "home" / "mlflow.db").read_bytes())
        assert alone.run(MONTHS, [*VALIDATION, *TRAINING]).success
        assert alone.run([COMING], VALIDATION).success
    shared, local = life(settings.home()), life(str(here.folder))
    assert {key: each.content for key, each in shared.validated.items()} == {
        key: each.content for key, each in local.validated.items()
    }
    assert len(shared.validated) == 4
    assert shared.candidate.model_sha256 == local.candidate.model_sha256
    assert identity(shared.candidate) == identity(local.candidate)
