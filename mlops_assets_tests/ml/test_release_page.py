"""The page that an approver reads: the question first, everything on one page, and nothing on it that is alive."""

from __future__ import annotations

import re

import pytest

from mlops_assets.ml.card import said_of
from mlops_assets.ml.release_page import Case, html
from mlops_assets_tests.evidence import comparison, drift, report
from mlops_assets_tests.html import Seen
from mlops_assets_tests.ml.test_card import HOSTILE, NOON, card, made, said

PICTURE = '<svg xmlns="http://www.w3.org/2000/svg"><title>sales: predicted against actual</title></svg>'


def case(**changes) -> Case:
    """A version that waits for an answer."""
    fields = {
        "card": card(drift=drift("2024-03", "stable")),
        "asks": "May toy v2 serve, instead of champion v1?",
        "advises": "It takes the place of champion v1.",
        "speaks_for": True,
        "lacks": "1 of ada and bob has to say yes.",
        "complete": False,
        "commands": ("mlops-assets approve toy 2 --reason '...'", "mlops-assets refuse toy 2 --reason '...'"),
        "champion": 1,
        "champion_drift": drift("2024-03", "watch"),
        "evidence": {"model": "c" * 64, "report": "d" * 64},
        "addresses": {"evaluation report": "http://127.0.0.1:3001/toy/evaluation/x.html"},
        "written": NOON,
    }
    return Case(**{**fields, **changes})


def test_the_question_comes_first_then_advice_and_what_is_missing():
    page = html(case(), [PICTURE])
    places = [
        page.index(text)
        for text in (
            "<h1>May toy v2 serve, instead of champion v1?</h1>",
            "The rules recommend it.",
            "has to say yes",
            "Gates",
        )
    ]
    assert places == sorted(places)
    assert "advise against it" in html(case(speaks_for=False), [])


def test_everything_that_an_approver_needs_is_on_the_one_page():
    of = made()
    judged = report(of, champion=comparison(0.8), champion_absent=None)
    page = html(case(card=card(of, judged, drift=drift("2024-03", "stable"))), [PICTURE])
    for heading in ("Say yes or no", "Waivers, approvals and refusals", "Metrics", "Against the champion", "Pictures"):
        assert f"<h2>{heading}" in page
    for heading in ("Drift", "Lineage", "Purpose", "Limits", "Data", "Method"):
        assert page.count(f"<h2>{heading}</h2>") == 1, heading
    assert PICTURE in page
    assert "Gain in mae on champion v1, on the same 300 rows" in page
    assert "mlops-assets approve toy 2 --reason &#x27;...&#x27;" in page
    assert "Champion v1, on its newest partition: watch: by hand." in page
    assert "d" * 64 in page
    assert of.manifest.digest() in page


def test_without_a_question_there_is_no_command():
    assert "Say yes or no" not in html(case(commands=()), [])


def test_a_champion_is_not_held_against_itself():
    assert "on its newest partition" not in html(case(champion=2), [])


def test_what_is_not_known_is_said():
    page = html(case(card=card(), champion_drift=None), [])
    assert "toy v2, on what judged it: nothing is known of its drift." in page
    assert "Champion v1, on its newest partition: nothing is known of its drift." in page


def test_the_page_needs_nothing_else_and_runs_nothing():
    page = html(case(), [PICTURE])
    tags = Seen(page).tags
    assert not [tag for tag, _ in tags if tag in {"script", "img", "iframe", "link", "object"}]
    assert not [found for _, found in tags if "src" in found or any(name.startswith("on") for name in found)]
    assert "default-src 'none'" in page
    assert re.findall(r"url\(|@import", page) == []


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", "/relative"])
def test_only_web_addresses_become_links(address):
    assert address not in html(case(addresses={"report": address}), [])


def test_hostile_text_stays_text():
    of = made(spec={"description": HOSTILE, "owner": HOSTILE})
    judged = report(of, notes=(HOSTILE,), champion_absent=HOSTILE)
    refused = said_of([said(kind="refused", who=HOSTILE, why=HOSTILE)], "toy", 2, "c" * 64)
    page = html(
        case(card=card(of, judged, said=refused), asks=HOSTILE, advises=HOSTILE, lacks=HOSTILE, commands=(HOSTILE,)), []
    )
    assert [tag for tag, _ in Seen(page).tags if tag == "script"] == []
    assert "<script>alert" not in page
