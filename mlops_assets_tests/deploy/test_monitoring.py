"""Alert rules and dashboards: what they name is exported, what they link to is there, and the simple ones fire."""

import json
import re
from pathlib import Path

import pytest
import yaml

from mlops_assets.compute.diagnosis import KINDS
from mlops_assets.exporter.families import FAMILIES
from mlops_assets.exporter.storage import CAUSES
from mlops_assets.lifecycle.sensors.ended import TOLD_AS, TOLD_ELSEWHERE
from mlops_assets_tests.deploy.promql import FUNCTIONS, balanced, called, fires, grouped, named

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "monitoring"
RULES = [
    rule for group in yaml.safe_load((FOLDER / "rules.yaml").read_text())["spec"]["groups"] for rule in group["rules"]
]
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "dashboards").glob("*.json"))}
EXPORTED = {f"{each.name}_total" if each.kind == "counter" else each.name: each for each in FAMILIES}
QUERIES = {
    **{rule["alert"]: rule["expr"] for rule in RULES},
    **{
        f"{name} {panel['id']}{target['refId']}": target["expr"]
        for name, board in BOARDS.items()
        for panel in board["panels"]
        for target in panel["targets"]
    },
}
NOW = 1_700_000_000.0


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_metrics_and_labels_that_are_exported_and_functions_that_there_are(query):
    text = QUERIES[query]
    assert balanced(text)
    found = named(text)
    assert found
    for metric in found:
        assert metric.name in EXPORTED
        assert metric.labels <= set(EXPORTED[metric.name].labels)
        is_counter = EXPORTED[metric.name].kind == "counter"
        assert metric.over_time == is_counter, "a counter is looked at over time, a gauge as it stands"
    assert grouped(text) <= {label for metric in found for label in EXPORTED[metric.name].labels}
    assert called(text) <= FUNCTIONS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_says_how_long_how_bad_what_and_where_to_read_on(rule):
    assert re.fullmatch(r"[1-9]\d*[mh]", rule["for"])
    assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    assert rule["annotations"]["summary"].endswith(".")
    assert (ROOT / rule["annotations"]["runbook_url"]).is_file()
    labels = {label for metric in named(rule["expr"]) for label in EXPORTED[metric.name].labels}
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert shown <= (grouped(rule["expr"]) or labels)


def test_rules_have_names_of_their_own_and_the_object_is_one_that_prometheus_operator_takes():
    names = [rule["alert"] for rule in RULES]
    assert len(names) == len(set(names))
    whole = yaml.safe_load((FOLDER / "rules.yaml").read_text())
    assert (whole["apiVersion"], whole["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert all(set(rule) == {"alert", "expr", "for", "labels", "annotations"} for rule in RULES)


def one(name, value, **labels):
    return [(name, labels, value)]


FIRING = {
    "MlopsDaemonSilent": [
        (one("mlops_daemon_heartbeat_timestamp_seconds", NOW - 180, daemon="SENSOR"), False),
        (one("mlops_daemon_heartbeat_timestamp_seconds", NOW - 181, daemon="SENSOR"), True),
    ],
    "MlopsExporterBlind": [
        (one("mlops_exporter_source_up", 1, source="ledger"), False),
        (one("mlops_exporter_source_up", 0, source="ledger"), True),
    ],
    "MlopsCheckFailed": [
        (one("mlops_check_passed", 1, check="honours_contract"), False),
        (one("mlops_check_passed", 0, check="honours_contract"), True),
        (one("mlops_check_passed", 0, check="has_not_drifted"), False),
    ],
    "MlopsPerformsWorse": [
        (one("mlops_check_passed", 0, check="honours_contract"), False),
        (one("mlops_check_passed", 0, check="performs_as_registered"), True),
    ],
    "MlopsDrifted": [
        (one("mlops_drift_verdict", 1, verdict="watch"), False),
        (one("mlops_drift_verdict", 0, verdict="drifted"), False),
        (one("mlops_drift_verdict", 1, verdict="drifted"), True),
    ],
    "MlopsDataOverdue": [
        (one("mlops_partitions_behind", 2, model="toy"), False),
        (one("mlops_partitions_behind", 3, model="toy"), True),
    ],
    "MlopsApprovalWaits": [
        (one("mlops_approval_asked_timestamp_seconds", NOW - 86400, model="toy"), False),
        (one("mlops_approval_asked_timestamp_seconds", NOW - 86401, model="toy"), True),
    ],
    "MlopsAlertsNotTold": [(one("mlops_outbox_messages", 0), False), (one("mlops_outbox_messages", 1), True)],
    "MlopsDaemonErrors": [
        (one("mlops_daemon_errors", 0, daemon="SENSOR"), False),
        (one("mlops_daemon_errors", 1, daemon="SENSOR"), True),
    ],
}


@pytest.mark.parametrize("alert", FIRING)
def test_an_alert_fires_beyond_its_limit_and_not_at_it(alert):
    (rule,) = [rule for rule in RULES if rule["alert"] == alert]
    assert [fires(rule["expr"], samples, NOW) for samples, _ in FIRING[alert]] == [true for _, true in FIRING[alert]]


def test_every_alert_that_is_a_comparison_was_tried_on_both_sides():
    comparisons = {rule["alert"] for rule in RULES if fires(rule["expr"], [], NOW) is not None}
    assert comparisons == set(FIRING)


@pytest.mark.parametrize("board", BOARDS)
def test_a_dashboard_has_panels_that_neither_share_a_number_nor_a_place(board):
    panels = BOARDS[board]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells
    assert {variable["name"] for variable in BOARDS[board]["templating"]["list"]} >= set(
        re.findall(r"\$\{?(\w+)", json.dumps([panel["datasource"] for panel in panels]) + str(QUERIES))
    ) - {"model"}


def test_the_causes_that_are_counted_are_those_that_are_diagnosed():
    assert set(KINDS) == CAUSES


def test_a_query_with_a_typo_is_found():
    assert named("sum(mlops_runz_total)")[0].name not in EXPORTED
    assert not balanced("sum(rate(mlops_runs_total[1h])")
    assert called("summ(mlops_check_passed)") - FUNCTIONS == {"summ"}


def test_what_the_rules_leave_to_our_own_alerts_are_checks_that_there_are():
    (rule,) = [rule for rule in RULES if rule["alert"] == "MlopsCheckFailed"]
    left = set(re.search(r'!~"([^"]*)"', rule["expr"]).group(1).split("|"))
    assert left <= {*TOLD_AS, *TOLD_ELSEWHERE}
