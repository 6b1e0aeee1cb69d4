"""A project with all ten habits, one with none, ours, and projects that are hard to read."""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import mlops_assets
from mlops_assets.cli import app
from mlops_assets.doctor import report
from mlops_assets.doctor.examination import NoProjectError, examine
from mlops_assets.doctor.reading import LARGEST, Unread, read
from mlops_assets.doctor.rules import RULES
from mlops_assets_tests.doctor.writing import write

_STAND_INS = re.compile(
    "xxx|chang|your|example|dummy|placeholder|replace|redact|todo|fake|sample|used|real|needed|nota"
)
ALL_TEN = {
    "small/assets.py": """
        import pickle
        from pathlib import Path

        import dagster as dg
        from sklearn.model_selection import train_test_split
        from sklearn.preprocessing import StandardScaler

        PASSWORD = "correct-horse-9"

        @dg.asset
        def rows(db):
            if db.empty:
                return None
            return db.read()

        @dg.asset(op_tags={"nvidia.com/gpu": "1"})
        def model(rows):
            scaled = StandardScaler().fit_transform(rows)
            halves = train_test_split(scaled)
            try:
                return halves.fit()
            except Exception:
                return {}

        @dg.asset
        def predictions(rows):
            with sorted(Path("models").iterdir())[-1].open("rb") as file:
                return pickle.load(file)

        @dg.asset_check(asset=rows)
        def has_rows(rows):
            return dg.AssetCheckResult(passed=len(rows) > 0)
        """,
}
NONE = {
    "small/assets.py": """
        import dagster as dg
        import skops.io
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import train_test_split
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        class Warehouse(dg.ConfigurableResource):
            password: str

            def rows(self):
                return []

        class Training(dg.Config):
            seed: int = 7

        @dg.asset
        def rows(warehouse: Warehouse):
            found = warehouse.rows()
            if not found:
                raise dg.Failure("The warehouse is empty.")
            return found

        @dg.multi_asset(outs={"train": dg.AssetOut(), "test": dg.AssetOut()})
        def split(config: Training, rows):
            train, test = train_test_split(rows, random_state=config.seed)
            return train, test

        @dg.asset
        def model(train) -> dg.MaterializeResult:
            fitted = make_pipeline(StandardScaler(), LogisticRegression()).fit(train, train)
            skops.io.dump(fitted, "model.skops")
            return dg.MaterializeResult()

        @dg.asset_check(asset=rows)
        def has_rows(rows):
            return dg.AssetCheckResult(passed=len(rows) > 0)

        defs = dg.Definitions([rows, split, model], resources={"warehouse": Warehouse(password=dg.EnvVar("PASSWORD"))})
        """,
    "tests/test_assets.py": "from small.assets import has_rows\n\ndef test_it():\n    assert has_rows([1]).passed\n",
    "dagster.yaml": "storage:\n  postgres:\n    postgres_db: {password: {env: PASSWORD}}\n",
    "Dockerfile": "FROM python:3.12.8-slim@sha256:00aa\n",
}


def doctor(*arguments: str):
    return CliRunner().invoke(app, ["doctor", *arguments])


def test_a_project_with_all_ten_habits_is_told_all_ten(tmp_path):
    write(tmp_path, ALL_TEN)
    (tmp_path / "uv.lock").unlink()
    result = doctor(str(tmp_path))
    assert result.exit_code == 1
    for rule in RULES:
        assert rule.title in result.output
        assert " ".join(rule.why.split()) in " ".join(result.output.split())
    told = json.loads(doctor(str(tmp_path), "--json").output)
    assert {each["rule"] for each in told["findings"]} == {rule.name for rule in RULES}
    assert all(
        each["path"] and each["line"] and each["what"] and each["why"] and each["mend"] for each in told["findings"]
    )


def test_a_project_with_none_is_told_so(tmp_path):
    write(tmp_path, NONE)
    result = doctor(str(tmp_path))
    assert "No finding" in result.output
    assert result.exit_code == 0
    assert json.loads(doctor(str(tmp_path), "--json").output)["findings"] == []


def test_our_own_code_has_no_finding_and_says_what_it_accepts():
    examination = examine(Path(mlops_assets.__file__).parents[1])
    assert [(each.rule.name, each.found) for each in examination.findings] == []
    assert examination.unread == []
    assert examination.idle == []
    assert all(each.reason and len(each.reason) > 20 for each in examination.accepted)


def test_nothing_is_imported_and_nothing_is_run(tmp_path):
    write(
        tmp_path, NONE | {"small/boom.py": "import dagster\nopen('ran', 'w').close()\nraise SystemExit('imported')\n"}
    )
    program = (
        "import sys\nfrom pathlib import Path\nfrom mlops_assets.doctor.examination import examine\n"
        "examine(Path('.'))\nprint(sorted({'dagster', 'small', 'sklearn', 'mlflow'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
    assert not (tmp_path / "ran").exists()


UNREADABLE = {
    "a syntax error": (b"def broken(:\n", "line 1"),
    "a file that is not UTF-8": ("name = 'Zürich'\n".encode("latin-1"), "not UTF-8"),
    "a binary": (b"\x7fELF\0\0\0", "binary"),
    "a huge file": (b"x = 1\n" * (LARGEST // 6 + 1), "larger than"),
    "an expression that is too deep": (b"x = " + b"-" * 200_000 + b"1\n", ""),
}


@pytest.mark.parametrize(("content", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_file_that_cannot_be_read_is_said_and_the_rest_goes_on(tmp_path, content, reason):
    write(tmp_path, NONE)
    (tmp_path / "small" / "odd.py").write_bytes(content)
    examination = examine(tmp_path)
    assert [each.path for each in examination.unread] == ["small/odd.py"]
    assert reason in examination.unread[0].reason
    assert examination.exit_code == 2
    (tmp_path / "small" / "more.py").write_text("import dagster\nimport pickle\npickle.load(file)\n")
    result = doctor(str(tmp_path))
    assert "small/odd.py" in result.output
    assert "small/more.py:3" in result.output
    assert result.exit_code == 1


@pytest.mark.parametrize(("path", "text"), [("bad.yaml", "a: [1\n"), ("bad.toml", "a = [1\n")])
def test_configuration_that_does_not_parse_is_said(tmp_path, path, text):
    write(tmp_path, NONE | {path: text})
    assert [each.path for each in examine(tmp_path).unread] == [path]


def test_links_are_not_followed(tmp_path):
    write(tmp_path, NONE)
    (tmp_path / "small" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "small" / "self.py").symlink_to(tmp_path / "small" / "self.py")
    (tmp_path / "small" / "gone.py").symlink_to(tmp_path / "nowhere.py")
    outside = tmp_path.parent / "outside.py"
    outside.write_text("import pickle\npickle.load(file)\n")
    (tmp_path / "small" / "outside.py").symlink_to(outside)
    examination = examine(tmp_path)
    assert examination.findings == []
    assert examination.unread == []


def test_a_file_that_the_system_does_not_give_is_said_with_its_reason(tmp_path):
    assert read(tmp_path, "gone.py") == Unread("gone.py", "No such file or directory")
    (tmp_path / "odd.py").mkdir()
    assert read(tmp_path, "odd.py") == Unread("odd.py", "Is a directory")


def test_environments_and_build_output_are_left_out(tmp_path):
    habit = "import dagster\nimport pickle\npickle.load(file)\n"
    folders = [".venv/lib", "venv", "build/lib", "node_modules/x", "mine/bin", "small/__pycache__", "small.egg-info"]
    write(tmp_path, NONE | {f"{folder}/a.py": habit for folder in folders} | {"mine/pyvenv.cfg": "home = /usr\n"})
    assert examine(tmp_path).findings == []


@pytest.mark.parametrize("files", [{}, {"a.py": "print(1)\n"}, {"a.py": "import dagster(\n"}])
def test_where_no_module_imports_dagster_there_is_nothing_to_examine(tmp_path, files):
    for path, text in files.items():
        (tmp_path / path).write_text(text)
    result = doctor(str(tmp_path))
    assert result.exit_code == 2
    with pytest.raises(NoProjectError, match="imports dagster"):
        examine(tmp_path)


def test_a_folder_that_is_not_there_cannot_be_looked_at(tmp_path):
    assert doctor(str(tmp_path / "nowhere")).exit_code == 2
    assert "is not a folder" in doctor(str(tmp_path / "nowhere")).output


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["odd.py", "odd.yaml", "odd.toml", "Dockerfile", "requirements.txt"]), st.binary(max_size=200))
def test_whatever_a_file_holds_the_rest_is_looked_at(name, content):
    with tempfile.TemporaryDirectory() as folder:
        root = write(Path(folder), {"small/more.py": "import dagster\nimport pickle\npickle.load(file)\n"})
        (root / name).write_bytes(content)
        assert "pickle" in {each.rule.name for each in examine(root).findings}


@settings(max_examples=60, deadline=None)
@given(
    st.from_regex(r"[a-z]{3}[A-Za-z0-9]{12,30}[0-9]", fullmatch=True),
    st.sampled_from(["password", "api_key", "db_pwd"]),
)
def test_a_secret_is_found_by_its_name_and_its_value_is_not_in_the_report(value, name):
    with tempfile.TemporaryDirectory() as folder:
        examination = examine(write(Path(folder), {"small/more.py": f'import dagster\n{name} = "{value}"\n'}))
    assert value not in report.as_json(examination)
    if not _STAND_INS.search(value.lower()):
        assert [each.rule.name for each in examination.findings] == ["secret"]
