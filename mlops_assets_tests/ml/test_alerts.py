"""What makes two alerts the same, when one is told again, and how several become one message."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mlops_assets.ml.alerts import (
    LONGEST,
    PATIENCE,
    SEVERAL,
    SHOWN,
    TITLES,
    URGENT,
    WAITS,
    Alert,
    Delivery,
    Telling,
    body,
    concerns,
    grouped,
    is_news,
    name_of,
    plain,
    subject,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TICK = timedelta(microseconds=1)


def alert(kind="drift", model="toy", about="it moved", at=NOW, **changes):
    fields = {
        "kind": kind,
        "model": model,
        "partition": "2026-02",
        "about": about,
        "sentence": "Prices moved by 0.31.",
        "link": "http://127.0.0.1:3000/assets/toy",
        "raised": at,
    }
    return Alert.model_validate(fields | changes)


kinds = st.sampled_from(sorted(TITLES))
models = st.sampled_from([None, *(f"model_{number}" for number in range(9))])
alerts = st.builds(
    alert,
    kind=kinds,
    model=models,
    about=st.text(max_size=5),
    at=st.integers(0, 10**6).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    partition=st.none() | st.text("abc-0", min_size=1, max_size=5),
    sentence=st.text(min_size=1, max_size=30),
)


def test_alerts_about_the_same_thing_have_one_name_whenever_they_are_raised():
    assert alert().name == alert(at=NOW + DAY, sentence="otherwise", partition=None).name
    assert len({alert().name, alert(about="more").name, alert(model="other").name, alert(kind="given_up").name}) == 4


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValidationError, match="timezone"):
        alert(at=datetime(2026, 3, 1))  # noqa: DTZ001


def test_the_first_of_its_kind_is_news():
    assert is_news(NOW, None, None, DAY)


def test_what_lasts_is_told_again_after_the_declared_time_and_not_before():
    assert not is_news(NOW + DAY - TICK, NOW, None, DAY)
    assert is_news(NOW + DAY, NOW, None, DAY)


def test_what_comes_back_after_it_was_over_is_news_at_once():
    over = NOW + HOUR
    assert not is_news(over, NOW, over, DAY)
    assert is_news(over + TICK, NOW, over, DAY)


def test_what_was_over_before_it_was_raised_last_is_over_no_more():
    assert not is_news(NOW + HOUR, NOW, NOW - HOUR, DAY)


def test_what_is_seen_again_is_no_news():
    assert not is_news(NOW, NOW, None, DAY)
    assert not is_news(NOW - HOUR, NOW, None, DAY)
    assert not is_news(NOW - HOUR, NOW, NOW + HOUR, DAY)


def test_a_clock_that_ran_a_year_ahead_silences_nothing_when_it_is_right_again():
    assert is_news(NOW, NOW + timedelta(days=365), None, DAY)


@given(st.lists(alerts, max_size=40))
def test_every_alert_is_in_exactly_one_message(raised):
    messages = grouped(raised, NOW)
    inside = [each for message in messages for each in message.alerts]
    assert sorted(inside, key=repr) == sorted(raised, key=repr)
    assert len({message.id for message in messages}) == len(messages)


@given(st.lists(alerts, max_size=40))
def test_a_message_is_of_one_kind_and_of_one_model_or_of_many(raised):
    for message in grouped(raised, NOW):
        assert {each.kind for each in message.alerts} == {message.kind}
        of_message = {each.model for each in message.alerts}
        assert of_message == {message.model} or len(of_message) > SEVERAL


@given(st.lists(alerts, max_size=20), st.randoms())
def test_the_order_in_which_alerts_are_found_changes_no_message(raised, random):
    unique = list({(each.name, each.raised): each for each in raised}.values())
    shuffled = random.sample(unique, len(unique))
    assert grouped(unique, NOW) == grouped(shuffled, NOW)


@pytest.mark.parametrize(("count", "messages"), [(SEVERAL, SEVERAL), (SEVERAL + 1, 1)])
def test_when_many_models_have_the_same_trouble_it_is_one_message(count, messages):
    found = grouped([alert(kind="failed_run", model=f"model_{number}") for number in range(count)], NOW)
    assert len(found) == messages
    assert {each.model for message in found for each in message.alerts} == {f"model_{n}" for n in range(count)}


@given(alerts)
def test_a_message_says_the_model_the_partition_the_sentence_the_link_and_the_runbook(raised):
    [message] = grouped([raised], NOW)
    text = f"{subject(message)}\n{body(message, 'https://docs/runbooks')}"
    for part in (raised.model, raised.partition, raised.link, plain(raised.sentence)):
        assert (part or "") in text
    assert f"https://docs/runbooks/{raised.kind}.md" in text
    assert message.id in text
    assert len(subject(message).splitlines()) == 1


def test_one_message_reads_like_this():
    [message] = grouped([alert()], NOW)
    assert subject(message) == "toy: the data have drifted (2026-02)"
    assert body(message, "docs/runbooks") == (
        "Prices moved by 0.31.\n"
        "toy, partition 2026-02, 2026-03-01 12:00 UTC\n"
        "http://127.0.0.1:3000/assets/toy\n\n"
        "What to do: docs/runbooks/drift.md\n"
        f"Message {message.id}"
    )


def test_a_message_of_many_shows_some_and_says_how_many_more_there_are():
    [message] = grouped([alert(about=str(number)) for number in range(SHOWN + 3)], NOW)
    text = body(message, "docs/runbooks")
    assert subject(message) == f"toy: the data have drifted, {SHOWN + 3} times"
    assert text.count("Prices moved") == SHOWN
    assert "... and 3 more: mlops-assets alerts lists them." in text
    [all_of_them] = grouped([alert(about=str(number)) for number in range(SHOWN)], NOW)
    assert "more" not in body(all_of_them, "docs/runbooks")


def test_a_message_that_may_have_been_told_before_says_so():
    [message] = grouped([alert()], NOW)
    assert "may have been told before" in body(message, "docs/runbooks", again=True)


@given(st.text(max_size=2000))
def test_a_text_in_a_message_is_printable_and_not_too_long(text):
    told = plain(text)
    assert len(told) <= LONGEST
    assert all(mark.isprintable() or mark == "\n" for mark in told)


def test_only_what_stands_still_until_somebody_acts_is_urgent():
    assert {kind for kind in TITLES if alert(kind=kind).severity == "urgent"} == URGENT
    assert alert(kind="drift").severity == "notice"


@pytest.mark.parametrize(
    ("only", "taken"),
    [
        ((), True),
        (("notice",), True),
        (("urgent",), False),
        (("drift",), True),
        (("failed_run",), False),
        (("toy",), True),
        (("bike",), False),
        (("team:shop",), True),
        (("team:other",), False),
        (("urgent", "team:shop"), True),
    ],
)
def test_a_channel_takes_what_it_is_limited_to(only, taken):
    [message] = grouped([alert()], NOW)
    assert concerns(message, only, {"toy": "team:shop", "bike": "team:other"}) is taken


def test_a_channel_that_takes_nothing_is_tried_again_after_ever_longer_waits():
    delivery, now = Delivery(channel="mail"), NOW
    for wait in (*WAITS, WAITS[-1], WAITS[-1]):
        assert delivery.is_due(now)
        delivery = delivery.begun(now).ended(now, taken=False, said="refused")
        assert not delivery.is_due(now + wait - TICK)
        now += wait
    assert sorted(WAITS) == list(WAITS)


def test_a_channel_that_took_it_is_left_alone():
    delivery = Delivery(channel="mail").begun(NOW).ended(NOW, taken=True, said="told")
    assert delivery.state == "told"
    assert not delivery.is_due(NOW + 10 * PATIENCE)


@pytest.mark.parametrize(("after", "state"), [(PATIENCE - TICK, "waiting"), (PATIENCE, "given_up")])
def test_a_channel_is_given_up_when_patience_is_at_its_end(after, state):
    delivery = Delivery(channel="mail").begun(NOW).ended(NOW, taken=False, said="refused")
    assert delivery.begun(NOW + after).ended(NOW + after, taken=False, said="refused").state == state


def test_a_clock_that_is_set_back_delays_nothing():
    delivery = Delivery(channel="mail").begun(NOW).ended(NOW, taken=False, said="refused")
    assert delivery.is_due(NOW - DAY)


def test_an_attempt_whose_process_died_is_made_again():
    delivery = Delivery(channel="mail").begun(NOW)
    assert delivery.interrupted
    assert not delivery.is_due(NOW)
    assert delivery.is_due(NOW + WAITS[0])


def test_a_channel_that_is_configured_no_more_is_given_up_in_the_end():
    [message] = grouped([alert()], NOW)
    telling = Telling(message=message, deliveries=(Delivery(channel="gone"), Delivery(channel="there")))
    assert telling.without_those_gone({"there"}, NOW + PATIENCE - TICK) == telling
    later = telling.without_those_gone({"there"}, NOW + PATIENCE)
    assert [each.state for each in later.deliveries] == ["given_up", "waiting"]


def test_names_can_be_computed_without_the_alert():
    assert name_of("drift", "toy", "it moved") == alert().name
