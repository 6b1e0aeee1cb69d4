"""Row 41: events, tags and configurations that anyone who reaches the web server can forge release nothing."""

from datetime import UTC, datetime

import dagster as dg
import pytest

from mlops_assets import settings
from mlops_assets.ml.ledger import champion
from mlops_assets.webserver import Stamp, app
from mlops_assets_tests.approving import PEOPLE, Office, signing_key
from mlops_assets_tests.homes import instance_at
from mlops_assets_tests.webservers import code_location, serving

pytestmark = pytest.mark.fault(41)

HEADER = "X-Forwarded-Email"
IN_THIS_PROCESS = {"module": "dagster._core.launcher.sync_in_memory_run_launcher", "class": "SyncInMemoryRunLauncher"}
CHAMPION = dg.AssetKey(["toy", "champion"])
CHECK = dg.AssetCheckKey(CHAMPION, "waits_for_nobody")
DEFINITIONS = """
import dagster as dg
from mlops_assets.defs.resources import resources
from mlops_assets.lifecycle import lifecycle, watching
from mlops_assets_tests import toy
spec = toy.spec({landing!r}, release={rule!r})
outside = resources({home!r}, "sqlite:///{home}/mlflow.db")
defs = dg.Definitions.merge(
    lifecycle(spec), watching([spec]), dg.Definitions(resources=outside, executor=dg.in_process_executor)
)
"""
REPORT = """mutation($given: ReportRunlessAssetEventsParams!) { reportRunlessAssetEvents(eventParams: $given) {
  __typename ... on PythonError { message } } }"""


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    """Version 2 waits for ana and ben, whose answers have to be signed."""
    office = Office.open(tmp_path_factory.mktemp("office"), *PEOPLE, approvals_needed=2)
    office.now = datetime.now(UTC)
    office.ask()
    return office


@pytest.fixture(scope="module")
def sites(office, tmp_path_factory):
    """Dagster's own web server, and ours behind a proxy."""
    from dagster_webserver.app import create_app_from_workspace_process_context

    folder = tmp_path_factory.mktemp("instance")
    file = folder / "toys.py"
    landing = str(office.home / "landing")
    file.write_text(DEFINITIONS.format(home=str(office.home), rule=office.rule, landing=landing))
    with pytest.MonkeyPatch.context() as patch, instance_at(folder, run_launcher=IN_THIS_PROCESS) as instance:
        patch.setenv(settings.TRUSTED_KEYS.name, office.keys.trusted)
        with code_location(instance, file) as process:
            plain = create_app_from_workspace_process_context(process)
            ours = app(process, Stamp(HEADER, signing_key("webserver"), office.ledger))
            with serving(plain, process) as stock, serving(ours, process) as proxied:
                yield stock, proxied


def said(version=2, **more):
    """What a person fills in at the launchpad."""
    config = {"model": "toy", "version": version, "reason": "I read the page.", **more}
    return {"ops": {"approve_release_as_a_person": {"config": config}}}


def accepted(office):
    """How many approvals count, after all that the sensor does."""
    office.desk().settle()
    return len(office.desk().standing().people)


def test_forged_events_tags_and_configurations_release_nothing(office, sites, record_figure):
    stock, proxied = sites
    materialization = {"eventType": "ASSET_MATERIALIZATION", "assetKey": {"path": CHAMPION.path}}
    answer = stock.ask(REPORT, {"given": {**materialization, "description": "v2 is champion"}})
    assert answer["reportRunlessAssetEvents"]["__typename"] == "ReportRunlessAssetEventsSuccess"
    stock.post("/report_asset_check/toy/champion", {"check_name": CHECK.name, "passed": True})
    by_dagster = [
        stock.instance.get_latest_materialization_event(CHAMPION) is not None,
        stock.instance.event_log_storage.get_latest_asset_check_execution_by_key([CHECK])[CHECK] is not None,
    ]
    assert by_dagster == [True, True]

    invalid = stock.launch("approve_release", said(who="ana"))
    assert invalid["__typename"] == "RunConfigValidationInvalid"
    stamp = {"mlops/started_by": "ana", "mlops/signature": f"{signing_key('webserver').fingerprint} {'A' * 86}=="}
    by_nobody = said(signed='{"who": "ana", "signature": {"key": "x", "signature": "y"}}')
    forged = [
        (stock, stock.launch("approve_release", by_nobody, stamp)),
        (proxied, proxied.launch("approve_release", said(), stamp, **{HEADER: "eve"})),
    ]
    launched = [each["__typename"] for _, each in forged]
    assert launched == ["LaunchRunSuccess"] * len(forged)
    ends = [(run := site.ended(each), site.why(run)) for site, each in forged]
    assert [run.status.value for run, _ in ends] == ["FAILURE"] * len(forged)
    assert "the key x is nobody's" in ends[0][1]
    assert "eve is not among the approvers of toy: ana, ben" in ends[1][1]
    assert (accepted(office), office.kinds()) == (0, [("asked", 2)])
    assert office.registry.holder("toy") == 1
    record_figure(forgeries=len(by_dagster) + 1 + len(forged), accepted_forgeries=0)
    record_figure(control=True, forged_events_that_dagster_accepts=sum(by_dagster) + len(launched))


def test_who_is_logged_in_at_the_proxy_approves_once_and_a_copy_of_it_does_not(office, sites, record_figure):
    stock, proxied = sites
    run = proxied.ended(proxied.launch("approve_release", said(), **{HEADER: "ana"}))
    assert run.status.value == "SUCCESS", proxied.why(run)
    assert run.tags["mlops/started_by"] == "ana"
    entry = office.ledger.links("toy")[-1].entry
    assert (entry.kind, entry.who, entry.via, entry.run) == ("approved", "ana", "proxy", run.run_id)
    assert accepted(office) == 1

    copied = {name: run.tags[name] for name in ("mlops/started_by", "mlops/signature")}
    copy = stock.ended(stock.launch("approve_release", said(), copied))
    assert "the signature is not of this approval" in stock.why(copy)
    assert accepted(office) == 1

    office.says("ben")
    assert accepted(office) == 2
    assert champion(office.ledger.links(), "toy").version == office.registry.holder("toy") == 2
    record_figure(copied_signatures=1, accepted_forgeries=0, released_by_two_people_who_signed=1)
