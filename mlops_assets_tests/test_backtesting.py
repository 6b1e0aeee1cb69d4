"""What a person types to compare policies of retraining on a stored history, and what is said and written."""

import io
import re
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from typer.testing import CliRunner

from mlops_assets import backtesting
from mlops_assets.backtesting import WishError
from mlops_assets.cli import app
from mlops_assets.ml.backtest import Replay, Step
from mlops_assets.ml.backtest_page import Comparison, courses, draw, html, sentence
from mlops_assets.ml.evaluation import Estimate
from mlops_assets.simulation.bike import BikeWorld
from mlops_assets.simulation.delivery import backdate
from mlops_assets.simulation.provider import Provider
from mlops_assets_tests import toy
from mlops_assets_tests.house import at_home

MONTHS = 7
QUICK = ("--set", "estimator.params.max_iter=20")
VALIDATION = ("raw_data", "validated_features", "quarantined_rows")


def type_in(*words):
    result = CliRunner().invoke(app, ["backtest", *map(str, words)], env={"COLUMNS": "200"})
    return result.exit_code, " ".join(result.output.split())


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A home whose bike_demand has seven validated months and nothing else."""
    home = tmp_path_factory.mktemp("house") / "home"
    with at_home(home) as opened:
        provider = Provider(BikeWorld(), home / "landing" / "bike_demand")
        (home / "landing" / "bike_demand").mkdir(parents=True)
        coming = list(provider.coming())[:MONTHS]
        for start, attempt in coming:
            [rows] = provider.send(start, attempt)
            backdate(rows, start)
        first, *_, last = (f"{start:%Y-%m-%d}" for start, _ in coming)
        assert opened.run("bike_demand", first, VALIDATION, last).success
        yield opened


def test_a_stored_history_is_compared_printed_and_drawn(house):
    days = ("--change", "2011-06-01", "--fault", "2011-05-01")
    status, said = type_in("bike_demand", *QUICK, "--policy", "never", "--policy", "every_n", *days)
    assert status == 0
    assert "3 partitions of bike_demand" in said
    assert re.search(r"never [\d.]+ \+0 0 0 .* 0 true, 0 false .* 0 true, 0 false", said)
    assert re.search(r"every_n [\d.]+ .* 1 1 .*EUR", said)
    folder = house.home / "reports" / "bike_demand" / "backtest"
    assert (folder / "policies.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "policies.html").read_text()
    assert "bike_demand: back-test" in page
    assert page.count("<polyline") == 2


def test_settings_are_tried_without_touching_the_declaration(house):
    status, said = type_in("bike_demand", *QUICK, "--policy", "every_n", "--set", "retraining.every=1")
    assert status == 0
    assert re.search(r"every_n [\d.]+ \+0 3 ", said)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("elsewhere",), "There is no model 'elsewhere'. There are:"),
        (("bike_demand", "--policy", "sometimes"), "there is no 'sometimes'. There are: gain, never"),
        (("bike_demand", "--policy", "always:0"), "training.window"),
        (("bike_demand", "--set", "retraining.worth=-1"), "retraining.worth"),
        (("bike_demand", "--set", "retraining.wort=1"), "Did you mean 'worth'"),
        (("bike_demand", "--set", "drift"), "give it as retraining.worth=0.3"),
        (
            ("bike_demand", "--change", "lately"),
            "--change: Invalid isoformat string: 'lately'. Give a day as 2012-03-01",
        ),
        (("bike_demand", "--fault", "2012-13-01"), "--fault: month must be in 1..12. Give a day as 2012-03-01"),
        (("electricity_price",), "there is nothing to live through yet"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_can(house, words, said):
    status, told = type_in(*words)
    assert status == 1
    assert said in told


def test_a_policy_may_name_its_window():
    spec = toy.spec("/nowhere")
    assert backtesting.contestant(spec, "always:6")[0].training.window == 6
    assert backtesting.contestant(spec, "gain:all")[0].training.window is None
    assert backtesting.contestant(spec, "gain")[0].retraining.policy == "gain"
    with pytest.raises(WishError):
        backtesting.contestant(spec, "always:much")


def lived(policy, figures, better="lower"):
    steps = tuple(
        Step(
            partition=str(date(2024, 1 + place, 1)),
            first=datetime(2024, 1 + place, 1, tzinfo=UTC),
            measured=Estimate(value=value, low=value - 1, high=value + 1),
            verdict="RETRAIN" if place == 1 and policy == "gain" else "WAIT",
            trained=place == 1 and policy == "gain",
            sentence="<b>because</b>",
        )
        for place, value in enumerate(figures)
    )
    return Replay(model="toy", policy=policy, metric="mae", better=better, steps=steps, trainings=())


def compared(*replays, **known):
    return Comparison(replays, toy.spec("/nowhere").retraining, (datetime(2024, 2, 10, tzinfo=UTC),), **known)


def blaming(policy, *places):
    """A replay in which some partitions are said to come from a broken feed."""
    told = lived(policy, [10, 8, 6])
    steps = [
        step.model_copy(update={"verdict": "FIX_UPSTREAM", "sentence": f"Broken <i>at</i> {place}."})
        if place in places
        else step
        for place, step in enumerate(told.steps)
    ]
    return told.model_copy(update={"steps": tuple(steps)})


def test_the_best_is_named_whichever_way_is_better():
    lower = compared(lived("gain", [10, 8, 6]), lived("never", [10, 10, 10]))
    higher = compared(lived("gain", [10, 8, 6], "higher"), lived("never", [10, 10, 10], "higher"))
    assert sentence(lower).startswith("gain did best: mae 8 on average over 3 partitions, 2 better than never")
    assert sentence(higher).startswith("never did best")


def test_the_course_of_every_policy_is_on_one_scale():
    assert courses(compared(lived("gain", [10, 8, 6]), lived("never", [10, 10, 20]))) == ["▃▂▁", "▃▃█"]
    assert courses(compared(lived("gain", []))) == [""]


def test_broken_feeds_are_counted_beside_the_faults_that_are_known():
    fault = datetime(2024, 3, 20, tzinfo=UTC)
    told = compared(blaming("gain", 0, 2), lived("never", [10, 10, 10]), faults=[fault])
    assert [row[-1] for row in told.rows()] == ["1 true, 1 false", "0 true, 0 false"]
    assert [row[-1] for row in compared(blaming("gain", 0, 2)).rows()] == ["2"]


def test_an_alarm_is_true_after_a_change_and_after_a_fault_alike():
    drifted = lived("gain", [10, 8, 6])
    steps = tuple(step.model_copy(update={"alarm": place == 2}) for place, step in enumerate(drifted.steps))
    told = compared(drifted.model_copy(update={"steps": steps}), within=0)
    assert told.rows()[0][-2] == "0 true, 1 false"
    assert replace(told, faults=[datetime(2024, 3, 1, tzinfo=UTC)]).rows()[0][-2] == "1 true, 0 false"


def test_broken_feeds_are_crosses_in_the_picture_and_sentences_on_the_page():
    text = html(compared(blaming("gain", 0, 2), lived("never", [10, 10, 10])))
    assert "What gain called a broken feed" in text
    assert "Broken &lt;i&gt;at&lt;/i&gt; 2." in text
    assert text.count('stroke-width="2.2"') == 2
    assert "broken feeds as crosses" in text
    without = html(compared(lived("gain", [10, 8, 6])))
    assert "broken feed" not in without


def test_the_slide_shows_broken_feeds_and_known_faults():
    def drawn(*replays, **known):
        target = io.BytesIO()
        draw(compared(*replays, **known), target)
        return target.getvalue()

    plain, crossed = drawn(lived("gain", [10, 8, 6])), drawn(blaming("gain", 2))
    assert plain.startswith(b"\x89PNG")
    assert crossed != plain
    assert drawn(blaming("gain", 2), faults=[datetime(2024, 3, 1, tzinfo=UTC)]) != crossed


def test_what_a_person_has_to_know_stands_on_the_page_and_is_said(house):
    told = compared(lived("gain", [10, 8, 6]), notes=["Labels <were> loaded at once."])
    assert "Labels &lt;were&gt; loaded at once." in html(told)
    assert "What to know" not in html(compared(lived("gain", [10, 8, 6])))
    assert "Labels <were> loaded at once." in backtesting.told(told, house.resources["reports"])


def test_the_page_escapes_what_it_quotes_and_marks_the_change():
    text = html(compared(lived("gain", [10, 8, 6]), lived("never", [10, 10, 10])))
    assert "<b>because</b>" not in text
    assert text.count("stroke-dasharray") == 1
    assert "What gain trained" in text
