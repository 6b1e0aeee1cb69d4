import json

import pytest

from mlops_assets.doctor import report
from mlops_assets.doctor.examination import examine
from mlops_assets_tests.doctor.writing import found, marked, write

# Put together here, so that no scanner takes these for real ones.
AWS = "AKIA" + "Q3EGRT7XZPLM2KVN"
GITHUB = "ghp_" + "a8Fk2mPq0Zt5Xw9Rb3Lc7Vn1Ys6Ud4Jh2Ge8"
RANDOM = "9f" + "Qz7Lm2Xc4Vb8Nk1Jh5"
FOUND = {
    "by its shape": f'key = "{AWS}"  # <-',
    "by its shape, within a text": f'headers = {{"Authorization": "Bearer {GITHUB}"}}  # <-',
    "a password": 'db = Postgres(host="db", password="correct-horse-9")  # <-',
    "a token": f'run_config = {{"resources": {{"api": {{"config": {{"access_token": "{RANDOM}"}}}}}}}}  # <-',
    "a constant": f'API_KEY = "{RANDOM}"  # <-',
    "a field": f'class Config:\n    secret_key: str = "{RANDOM}"  # <-',
    "the default of a variable": 'password = getenv("DB_PASSWORD", "hunter2-prod")  # <-',
    "an address": 'url = "postgresql://etl:s3cure-pw@db.internal/warehouse"  # <-',
}
NOT_FOUND = {
    "a variable of the environment": 'db = Postgres(password=dg.EnvVar("DB_PASSWORD"), api_key=getenv("API_KEY"))',
    "the name of a variable": 'PASSWORD = "WAREHOUSE_DB_PASSWORD"',
    "a placeholder": 'db = Postgres(password="<your password>", token="xxxxxxxxxxxxxxxx1", api_key="${API_KEY_2}")',
    "the default that everybody knows": 'db = Postgres(user="postgres", password="postgres")',
    "a word of another kind": 'next_token = "page-2-of-the-result-17"\ntokenizer = "bert-base-uncased-v1-large"',
    "a name for a secret": 'secret = "warehouse-credentials"',
    "an address without a password": 'url = f"postgresql://etl:{password}@db/warehouse"\nother = "https://a.org:8080/path@1"',
    "an address in a sentence": 'help = "An address such as postgresql://etl:s3cure-pw@db.internal/x, or none."',
    "documentation": '"""A token such as postgresql://etl:s3cure-pw@db.internal/x is refused."""',
    "the key that AWS prints in its guides": 'key = "AKIA' + 'IOSFODNN7EXAMPLE"',
}


@pytest.mark.parametrize("line", FOUND.values(), ids=FOUND)
def test_a_secret_in_code_is_found(tmp_path, line):
    text = f"from os import getenv\nimport dagster as dg\n\n{line}\n"
    assert found(tmp_path, text) == marked("secret", text)


@pytest.mark.parametrize("line", NOT_FOUND.values(), ids=NOT_FOUND)
def test_a_reference_or_a_placeholder_is_not(tmp_path, line):
    assert found(tmp_path, f"{line}\nfrom os import getenv\nimport dagster as dg\n") == []


def test_a_secret_in_configuration_is_found_and_a_reference_is_not(tmp_path):
    files = {
        "dagster.yaml": """
            storage:
              postgres:
                postgres_db:
                  username: {env: DB_USER}
                  password: {env: DB_PASSWORD}
            run_config:
              resources:
                api:
                  config:
                    password: "correct-horse-9"  # <-
                    token: ${API_TOKEN}
                    url: "postgresql://etl:s3cure-pw@db.internal/x"  # <-
            # such as postgresql://etl:s3cure-pw@db.internal/x
            """,
        "settings.toml": """
            [api]
            password = "correct-horse-9" # <-
            user = "etl"
            """,
        "values.yaml": "password: {{ .Values.password }}\n{{- if .x }}\nkey: 1\n{{- end }}\n",
    }
    assert found(tmp_path, files) == marked("secret", files)


def test_no_secret_is_ever_repeated(tmp_path):
    write(tmp_path, {"small/a.py": f'import dagster\npassword = "correct-horse-9"\nkey = "{AWS}"\n'})
    examination = examine(tmp_path)
    told = report.as_json(examination) + "\n".join(report.lines(examination))
    assert len(json.loads(report.as_json(examination))["findings"]) == 2
    assert "correct-horse-9" not in told
    assert AWS not in told
