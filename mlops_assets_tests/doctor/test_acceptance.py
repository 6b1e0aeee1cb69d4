"""A finding is accepted in place, by a comment with a reason, and never in silence."""

from pathlib import Path

import pytest

from mlops_assets.doctor import report
from mlops_assets.doctor.examination import Examination, examine
from mlops_assets.doctor.rules import RULES
from mlops_assets_tests.doctor.test_ten_habits import ALL_TEN
from mlops_assets_tests.doctor.writing import write

NAMES = [rule.name for rule in RULES]


def commented(root: Path, rule: str, comment: str) -> Examination:
    """The project of all ten habits, with `comment` above each finding of one rule."""
    write(root, ALL_TEN)
    (root / "uv.lock").unlink()
    places = [(each.found.path, each.found.line) for each in examine(root).findings if each.rule.name == rule]
    for path, line in sorted(places, reverse=True):
        lines = (root / path).read_text().splitlines()
        indent = lines[line - 1][: len(lines[line - 1]) - len(lines[line - 1].lstrip())]
        lines.insert(line - 1, f"{indent}{comment}")
        (root / path).write_text("\n".join(lines) + "\n")
    return examine(root)


@pytest.mark.parametrize("rule", NAMES)
def test_with_a_reason_a_finding_moves_to_the_summary(tmp_path, rule):
    examination = commented(tmp_path, rule, f"# doctor: accepted {rule}: it is only a toy")
    assert {each.rule.name for each in examination.findings} == set(NAMES) - {rule}
    assert {(each.rule.name, each.reason) for each in examination.accepted} == {(rule, "it is only a toy")}
    assert any("it is only a toy" in line for line in report.lines(examination))


@pytest.mark.parametrize("rule", NAMES)
@pytest.mark.parametrize("ending", ["", ":", ":   "])
def test_without_a_reason_it_stays_and_says_so(tmp_path, rule, ending):
    examination = commented(tmp_path, rule, f"# doctor: accepted {rule}{ending}")
    assert {each.rule.name for each in examination.findings} == set(NAMES)
    assert examination.accepted == []
    assert {each.rule.name for each in examination.findings if "no reason" in each.note} == {rule}


def text_with(line: str) -> dict[str, str]:
    return {"small/a.py": f"import dagster\nimport pickle\n{line}\n"}


def test_a_comment_may_stand_at_the_end_of_the_line(tmp_path):
    write(tmp_path, text_with("pickle.dump(1, file)  # doctor: accepted pickle: read by the same process"))
    assert [each.reason for each in examine(tmp_path).accepted] == ["read by the same process"]


@pytest.mark.parametrize(
    "line",
    [
        "pickle.dump(1, file)  # doctor: accepted secret: another rule",
        "# doctor: accepted pickle: too far above\n\npickle.dump(1, file)",
        'pickle.dump("# doctor: accepted pickle: in a string", file)',
        "pickle.dump(1, file)  # noqa: S301",
    ],
)
def test_a_comment_about_something_else_accepts_nothing(tmp_path, line):
    write(tmp_path, text_with(line))
    assert [each.rule.name for each in examine(tmp_path).findings] == ["pickle"]


def test_a_comment_that_accepts_nothing_that_was_found_is_listed(tmp_path):
    write(tmp_path, text_with("# doctor: accepted unseeded: once there was something here\nprint(1)"))
    examination = examine(tmp_path)
    assert [(each.path, each.line, each.rule) for each in examination.idle] == [("small/a.py", 3, "unseeded")]
    assert any("accept nothing" in line for line in report.lines(examination))
    assert examination.exit_code == 0
