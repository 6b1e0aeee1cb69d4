"""Every kind of alert has a page that says what it means and what to do, and what the pages name is there."""

import re
from pathlib import Path

import pytest

from mlops_assets import settings
from mlops_assets.cli import app
from mlops_assets.lifecycle import WATCHERS
from mlops_assets.lifecycle.sensors.alerting import ASSET
from mlops_assets.ml.alerts import TITLES, URGENT
from mlops_assets_tests import toy

DOCS = Path(__file__).parents[1] / "docs"
RUNBOOKS = DOCS / "runbooks"
SECTIONS = ["What it means", "How to look", "How to undo", "When to ignore"]
LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#]+)")
LONGEST = 45
PAGES = sorted(RUNBOOKS.glob("*.md"))


def test_every_kind_of_alert_has_its_page_and_every_page_its_kind():
    assert {path.stem for path in PAGES} == set(TITLES)


@pytest.mark.parametrize("kind", sorted(TITLES))
def test_a_page_has_the_title_of_its_alert_and_four_sections_and_is_short(kind):
    lines = (RUNBOOKS / f"{kind}.md").read_text().splitlines()
    assert lines[0].removeprefix("# ").lower() == TITLES[kind]
    assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == SECTIONS
    assert len(lines) <= LONGEST


@pytest.mark.parametrize("path", [*PAGES, DOCS / "alerts.md", DOCS / "rollback.md"], ids=lambda path: path.stem)
def test_what_a_page_links_to_is_there(path):
    assert [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()] == []


@pytest.mark.parametrize("path", [*PAGES, DOCS / "alerts.md", DOCS / "rollback.md"], ids=lambda path: path.stem)
def test_the_commands_settings_fields_and_sensors_that_a_page_names_exist(path):
    text = path.read_text()
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}
    assert set(re.findall(r"`mlops-assets (\w+)", text)) <= commands
    assert set(re.findall(r"`(MLOPS_\w+)[`=]", text)) <= {setting.name for setting in settings.ALL}
    for section, field in re.findall(r"`(quality|labels|drift|partitions|source)\.(\w+)[`:=]", text):
        assert f"`{section}.{field}`" in (DOCS / "settings.md").read_text()
    sensors = {watcher([toy.spec("x")]).name for watcher in WATCHERS}
    named = set(re.findall(r"sensors? `(\w+)`(?: and `(\w+)`)?", text))
    assert {name for pair in named for name in pair if name} <= sensors


def test_the_table_of_alerts_names_every_kind_with_its_severity():
    rows = re.findall(r"^\| ([^|]+) \| (urgent|notice) \| \[(\w+)\]", (DOCS / "alerts.md").read_text(), re.MULTILINE)
    assert {kind: (title, severity) for title, severity, kind in rows} == {
        kind: (title, "urgent" if kind in URGENT else "notice") for kind, title in TITLES.items()
    }
    assert f"asset `{ASSET.to_user_string()}`" in (DOCS / "alerts.md").read_text()
