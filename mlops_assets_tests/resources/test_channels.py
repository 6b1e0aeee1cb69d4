"""Channels: what MLOPS_ALERTS may say, and what arrives at real servers."""

import io
import logging
import socket

import pytest

from mlops_assets import settings
from mlops_assets.resources import channels as module
from mlops_assets.resources.channels import Channel, ChannelError, Note, channels, send
from mlops_assets_tests.sinks import http_sink, smtp_sink

NOTE = Note("20260301T120000-abc", "toy: a check failed (2026-02)", "Prices are negative.\nLook at it.", urgent=False)
SECRET = "canary0123456789abcdef"
SLACK = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/"
TEAMS = (
    "workflows://prod-8.northcentralus.logic.azure.com:443/11111111111111111111111111111111/"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
)
PAGERDUTY = "pagerduty://3e3f9d4e4c1b4f0a8a7b6c5d4e3f2a1b@3e3f9d4e4c1b4f0a8a7b6c5d4e3f2a1b"


@pytest.fixture
def say(monkeypatch):
    return lambda text: monkeypatch.setenv(settings.ALERTS.name, text)


@pytest.fixture
def logged():
    """Everything that any logger passes on to the root's handlers.

    Alembic switches off every logger there is when MLflow's or Dagster's database is made in this process.
    """
    text, root = io.StringIO(), logging.getLogger()
    for known in logging.Logger.manager.loggerDict.values():
        if isinstance(known, logging.Logger) and known.name.startswith("urllib3"):
            known.disabled, known.propagate = False, True
            known.setLevel(logging.NOTSET)
    handler, level = logging.StreamHandler(text), root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield text
    root.setLevel(level)
    root.removeHandler(handler)


def channel(uri, name="hook"):
    return Channel(name, frozenset(), uri)


def test_without_a_word_there_is_no_channel(say):
    say("")
    assert channels() == ()


def test_channels_are_named_by_hand_or_by_their_scheme(say):
    say(f"json://a json://b ops={SLACK}\n mailtos://c")
    assert [each.name for each in channels()] == ["json", "json-2", "ops", "mailtos"]


def test_a_channel_may_take_only_some_alerts(say):
    say(f"page[urgent,team:shop]={PAGERDUTY} [drift]=json://a json://b?x=1")
    assert [(each.name, sorted(each.only)) for each in channels()] == [
        ("page", ["team:shop", "urgent"]),
        ("json", ["drift"]),
        ("json-2", []),
    ]
    assert channels()[2].uri == "json://b?x=1"


def test_a_file_may_hold_the_channels_and_is_read_anew_each_time(say, tmp_path):
    path = tmp_path / "alerts"
    path.write_text("# whom to wake\npage[urgent]=json://a\n\njson://b json://c\n")
    say(f"file:{path} json://d")
    assert [each.name for each in channels()] == ["page", "json", "json-2", "json-3"]
    path.write_text("")
    assert [each.name for each in channels()] == ["json"]


@pytest.mark.parametrize("entry", [SECRET, f"://{SECRET}", f"a b=json://{SECRET}", f"n[x=json://{SECRET}", "json://"])
def test_what_is_no_channel_is_refused_by_its_place_and_never_quoted(say, entry):
    say(f"json://fine {entry}")
    with pytest.raises(ChannelError, match=r"MLOPS_ALERTS: entry [23] is no channel") as refused:
        channels()
    assert SECRET not in str(refused.value)


def test_a_file_that_cannot_be_read_is_named(say, tmp_path):
    say(f"file:{tmp_path}/nowhere")
    with pytest.raises(ChannelError, match="nowhere cannot be read: FileNotFoundError"):
        channels()


def test_no_text_of_a_channel_shows_its_uri(say):
    say(f"json://user:{SECRET}@host")
    assert SECRET not in repr(channels())


def test_a_webhook_is_sent_the_subject_the_text_and_a_key():
    with http_sink() as sink:
        assert send(channel(sink.uri), NOTE) == (True, "told")
    assert [(each["title"], each["message"]) for each in sink.taken] == [(NOTE.subject, NOTE.body)]
    assert sink.keys == [NOTE.key]


def test_urgency_is_told():
    with http_sink() as sink:
        send(channel(sink.uri), Note("1", "a", "b", urgent=True))
        send(channel(sink.uri), Note("2", "a", "b", urgent=False))
    assert [each["type"] for each in sink.taken] == ["failure", "warning"]


def test_a_mail_arrives_with_subject_text_and_key():
    with smtp_sink() as mailbox:
        uri = (
            f"mailto://127.0.0.1:{mailbox.port}?from=mlops@example.com&to=oncall@example.com&mode=insecure&format=text"
        )
        assert send(channel(uri), NOTE) == (True, "told")
    [mail] = mailbox.mails
    assert (mail["Subject"], mail["To"], mail["Idempotency-Key"]) == (NOTE.subject, "oncall@example.com", NOTE.key)
    assert mail.get_content().splitlines() == NOTE.body.splitlines()


def test_a_refusal_is_told_with_its_status():
    with http_sink() as sink:
        sink.answer = 503
        taken, said = send(channel(sink.uri), NOTE)
    assert not taken
    assert "503" in said


def test_nobody_listening_is_told_and_raises_nothing():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    taken, said = send(channel(f"json://127.0.0.1:{port}/x"), NOTE)
    assert not taken
    assert "onnection error" in said
    taken, said = send(channel(f"mailto://127.0.0.1:{port}?from=a@example.com&to=b@example.com&mode=insecure"), NOTE)
    assert not taken


def test_a_channel_that_gives_no_answer_is_left_in_time(monkeypatch):
    monkeypatch.setattr(module, "READ_SECONDS", 0.2)
    with http_sink() as sink:
        sink.slow.set()
        taken, said = send(channel(sink.uri), NOTE)
    assert not taken
    assert said


def test_what_apprise_does_not_know_is_told():
    taken, said = send(channel(f"nosuch://{SECRET}"), NOTE)
    assert (taken, SECRET in said) == (False, False)
    assert "apprise knows no such channel" in said


@pytest.mark.parametrize(
    "uri",
    [
        f"json://user:{SECRET}@127.0.0.1:9/hook",
        f"json://127.0.0.1:9/{SECRET}?-token={SECRET}",
        f"mailto://user:{SECRET}@127.0.0.1:9?from=a@example.com&mode=insecure",
        f"nosuch://{SECRET}",
        f"slack://{SECRET}",
        f"pagerduty://{SECRET}",
        f"json://user:{SECRET[:8]}%2F{SECRET[8:]}@127.0.0.1:9/",
    ],
)
def test_no_secret_is_said_or_logged(uri, logged, capfd):
    _, said = send(channel(uri), NOTE)
    for text in (said, logged.getvalue(), *capfd.readouterr()):
        assert SECRET not in text
        assert SECRET[8:] not in text


def test_no_secret_is_logged_where_all_goes_well(logged):
    with http_sink() as sink:
        assert send(channel(f"{sink.uri}/{SECRET}"), NOTE)[0]
    assert SECRET not in logged.getvalue()


def test_the_search_of_the_log_finds_what_requests_says_elsewhere(logged):
    import requests

    with http_sink() as sink:
        requests.post(f"http://127.0.0.1:{sink.port}/{SECRET}", json={}, timeout=5)
    assert SECRET in logged.getvalue()


@pytest.mark.parametrize("uri", [SLACK, TEAMS, PAGERDUTY, "mailtos://user:password@example.com", "jsons://example.com"])
def test_apprise_knows_the_channels_that_the_documentation_names(uri, say):
    import apprise

    say(f"here={uri}")
    [found] = channels()
    service = apprise.Apprise.instantiate(found.uri)
    assert service is not None
    module._prepare(service, NOTE.key)
    if uri is PAGERDUTY:
        assert service.dedup == NOTE.key
