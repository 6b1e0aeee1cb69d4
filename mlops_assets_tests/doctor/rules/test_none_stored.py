import pytest

from mlops_assets_tests.doctor.writing import found, marked

FOUND = {
    "None on one path": """
        import dagster as dg

        @dg.asset
        def model(rows):
            if rows.empty:
                return None  # <-
            return rows.mean()
        """,
    "a bare return, under another name": """
        from dagster import asset as thing

        @thing
        def model(rows):
            if rows.empty:
                return  # <-
            return rows.mean()
        """,
    "it falls off the end": """
        import dagster as dg

        @dg.asset
        def model(rows):  # <-
            for row in rows:
                if row.good:
                    return row
        """,
    "None although no output is required": """
        import dagster as dg

        @dg.asset(output_required=False)
        def model(rows):
            if rows.empty:
                return None  # <-
            return rows.mean()
        """,
    "nothing, and it is loaded": """
        import dagster as dg

        @dg.asset
        def table(db):  # <-
            db.write("table")

        @dg.asset
        def report(table):
            return table.sum()
        """,
    "nothing, and it is loaded under another name, by its key": """
        import dagster as dg

        @dg.asset(name="stored", key_prefix="lake")
        def write_it(db):  # <-
            db.write("table")

        @dg.asset(ins={"given": dg.AssetIn(key=dg.AssetKey(["lake", "stored"]))})
        def report(given):
            return given.sum()
        """,
}
NOT_FOUND = {
    "nothing, and nobody loads it": "@dg.asset\ndef table(db):\n    db.write('table')\n\n@dg.asset(deps=[table])\ndef report(db):\n    return 1",
    "annotated as None": "@dg.asset\ndef table(db) -> None:\n    db.write('table')\n\n@dg.asset\ndef report(table):\n    return 1",
    "a dependency without a value": (
        "@dg.asset\ndef table(db):\n    db.write('t')\n\n"
        "@dg.asset(ins={'table': dg.AssetIn(dagster_type=dg.Nothing)})\ndef report(db):\n    return 1"
    ),
    "a result without a value": (
        "@dg.asset\ndef table(db):\n    if db.empty:\n        return\n    return dg.MaterializeResult(metadata={})"
    ),
    "it yields": "@dg.asset(output_required=False)\ndef table(db):\n    if db.empty:\n        return\n    yield dg.Output(1)",
    "it fails instead": "@dg.asset\ndef table(db):\n    if db.empty:\n        raise dg.Failure('empty')\n    return 1",
    "every path ends": (
        "@dg.asset\ndef table(db):\n    with db:\n        try:\n            return 1\n        except KeyError:\n            raise\n"
    ),
    "an inner function may": (
        "@dg.asset\ndef table(db):\n    def key(row):\n        if row:\n            return None\n        return 1\n    return key(db)"
    ),
    "a stub": "@dg.asset\ndef table(): ...\n\n@dg.asset\ndef report(table):\n    return 1",
}


@pytest.mark.parametrize("files", FOUND.values(), ids=FOUND)
def test_an_asset_whose_value_is_none_is_found(tmp_path, files):
    assert found(tmp_path, files) == marked("none-stored", files)


@pytest.mark.parametrize("text", NOT_FOUND.values(), ids=NOT_FOUND)
def test_an_asset_that_stores_no_none_is_not(tmp_path, text):
    assert found(tmp_path, f"import dagster as dg\n\n{text}\n") == []
