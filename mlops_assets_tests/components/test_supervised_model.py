"""The YAML face: what it refuses, where, and that YAML and Python give the same model."""

import re
import textwrap
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from mlops_assets_tests import toy

TYPE = "mlops_assets.components.SupervisedModel"


def declaration(name: str = "toy") -> dict:
    spec = toy.spec("landing", name=name)
    return {"type": TYPE, "attributes": spec.model_dump(mode="json", exclude_unset=True)}


def load(*declarations: dict | str) -> dg.Definitions:
    with create_defs_folder_sandbox() as sandbox:
        for number, content in enumerate(declarations):
            folder = Path(sandbox.defs_folder_path) / f"model{number}"
            folder.mkdir()
            text = content if isinstance(content, str) else yaml.safe_dump(content, sort_keys=False)
            (folder / "defs.yaml").write_text(text)
        (Path(sandbox.defs_folder_path) / "outside.py").write_text("from mlops_assets.defs.resources import defs\n")
        with sandbox.build_all_defs() as definitions:
            definitions.resolve_all_asset_specs()
            return definitions


def edited(**changes) -> dict:
    content = declaration()
    content["attributes"].update(changes)
    return content


def refusal(*declarations: dict | str) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011  (Dagster wraps the refusal in errors of its own)
        load(*declarations)
    messages, error = [], caught.value
    while error is not None:
        messages.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(messages)


def test_a_declaration_becomes_the_assets_of_its_model():
    assets = {spec.key.to_user_string() for spec in load(declaration()).resolve_all_asset_specs()}
    assert assets == {
        f"toy/{name}"
        for name in (
            "raw_data",
            "validated_features",
            "quarantined_rows",
            "trained_model",
            "evaluation_report",
            "registered_version",
            "champion",
            "drift_report",
            "predictions",
            "performance_report",
            "retraining_decision",
            "rollback_drill",
        )
    }


def test_a_misspelt_field_is_refused_with_file_line_and_the_allowed_names():
    content = edited()
    content["attributes"]["sede"] = 3
    text = refusal(content)
    assert re.search(r"model0.defs\.yaml:\d+", text)
    assert "sede" in text
    assert "Did you mean 'seed'?" in text
    assert "estimator" in text


def test_a_misspelt_nested_field_is_refused_with_the_allowed_names():
    text = refusal(edited(training={"windw": 3}))
    assert "Did you mean 'window'?" in text
    assert "min_partitions" in text
    assert re.search(r"defs\.yaml:\d+", text)


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"metric": "mae", "at_lest": 3}, "Did you mean 'at_least'?"),
        ({"metric": "mae", "size": "artifact", "at_most": 3}, "a gate has exactly one of the fields metric, champion"),
        ({"at_most": 3}, "a gate has exactly one of the fields metric, champion"),
    ],
)
def test_a_mistake_in_a_gate_is_refused_with_file_and_line(gate, said):
    text = refusal(edited(gates=[gate]))
    assert said in text
    assert re.search(r"defs\.yaml:\d+", text)


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        ({"training": "warp-drive"}, "'warp-drive' is not a compute profile. Allowed: cpu-small, cpu-large, gpu"),
        ({"data": "gpu"}, "'gpu' holds an accelerator, which data would leave idle: only training and"),
    ],
)
def test_a_profile_that_does_not_exist_or_suit_is_refused_with_file_line_and_field(compute, said):
    text = refusal(edited(compute=compute))
    assert said in text
    assert f"compute.{next(iter(compute))}" in text
    line = len(yaml.safe_dump(edited(compute=compute), sort_keys=False).split("compute:")[0].splitlines()) + 1
    assert re.search(rf"model0.defs\.yaml:{line}", text)


def test_a_mistake_is_found_in_whichever_of_many_models_it_stands():
    broken = edited(training={"windw": 3})
    assert "windw" in refusal(broken, declaration("second"))
    assert "windw" in refusal(declaration("second"), broken)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seed": -1}, "seed"),
        ({"owner": "nobody"}, "owner"),
        ({"evaluation": {"metric": "roc_auc"}}, "not a metric of regression"),
        ({"owner": "{{ 'nobody' }}"}, "owner"),
        ({"gates": [{"metric": "accuracy", "at_least": 0.5}]}, "accuracy"),
        ({"gates": [{"metric": "mae"}]}, "at_least or at_most"),
        ({"exclude": ["sales"]}, "cannot be excluded"),
        ({"training": {"window": 2, "min_partitions": 3}}, "window"),
        ({"training": {"min_partitions": 2}, "evaluation": {"metric": "mae", "holdout": 2}}, "holdout"),
        ({"partitions": {"every": "monthly"}}, "start"),
        ({"partitions": {"every": "batch"}, "source": {"uri": "x", "files": ["a.csv"]}}, "{partition}"),
        ({"source": {"uri": "x", "files": ["../a.csv"]}}, "leaves the folder"),
        ({"source": {"url_env": "DB", "query": "select 1"}}, ":start"),
        ({"drift": {"k": 4, "n": 3}}, "never be reached"),
        ({"compute": {"training": "warp-drive"}}, "warp-drive"),
        ({"features": [{"calendar": ["hour"], "path": "a.b"}]}, "exactly one"),
        ({"time": {"columns": ["ts"], "timezone": "Mars"}}, "no time zone 'Mars'"),
        ({"quality": {"row_count_ratio": [2.0, 0.5]}}, "row_count_ratio"),
        ({"seed": True}, "seed"),
        ({"exclude": ["wind", "wind"]}, "'wind' stands here twice"),
        ({"drift": {"world_changed": ["2024-02"]}}, "like '2024-01-01', the first"),
    ],
)
def test_an_impossible_declaration_is_refused_with_the_reason(changes, reason):
    assert reason in refusal(edited(**changes))


def test_a_partition_may_be_named_without_quotes_which_yaml_reads_as_a_day():
    text = yaml.safe_dump(edited(drift={"world_changed": ["DAY"]}), sort_keys=False)
    assert load(text.replace("DAY", "2024-02-01")).resolve_all_asset_specs()


def test_a_password_in_a_uri_is_refused_without_telling_it():
    text = refusal(edited(source={"uri": "s3://KEY:hunter2@bucket", "files": ["a.csv"]}))
    assert "uri holds a password" in text
    assert "hunter2" not in text


def test_a_template_is_filled_before_the_declaration_is_judged(monkeypatch):
    monkeypatch.setenv("TOY_OWNER", "team:night")
    definitions = load(edited(owner="{{ env.TOY_OWNER }}"))
    assert {tuple(spec.owners) for spec in definitions.resolve_all_asset_specs()} == {("team:night",)}


def test_the_same_model_can_be_declared_in_python():
    with create_defs_folder_sandbox() as sandbox:
        folder = Path(sandbox.defs_folder_path) / "model"
        folder.mkdir()
        (folder / "component.py").write_text(
            textwrap.dedent("""
            import dagster as dg
            from mlops_assets.components import SupervisedModel
            from mlops_assets_tests.toy import spec

            @dg.component_instance
            def toy(context: dg.ComponentLoadContext) -> SupervisedModel:
                return SupervisedModel(spec("landing"))
            """)
        )
        (Path(sandbox.defs_folder_path) / "outside.py").write_text("from mlops_assets.defs.resources import defs\n")
        with sandbox.build_all_defs() as definitions:
            in_python = {asset.key: asset.code_version for asset in definitions.resolve_all_asset_specs()}
    in_yaml = {asset.key: asset.code_version for asset in load(declaration()).resolve_all_asset_specs()}
    assert in_python == in_yaml
