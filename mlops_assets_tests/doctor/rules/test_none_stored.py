from textwrap import dedent

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
    "nothing, and nobody loads it": """
        @dg.asset
        def table(db):
            db.write("table")

        @dg.asset(deps=[table])
        def report(db):
            return 1
        """,
    "annotated as None": """
        @dg.asset
        def table(db) -> None:
            db.write("table")

        @dg.asset
        def report(table):
            return 1
        """,
    "a dependency without a value": """
        @dg.asset
        def table(db):
            db.write("table")

        @dg.asset(ins={"table": dg.AssetIn(dagster_type=dg.Nothing)})
        def report(db):
            return 1
        """,
    "a result without a value": """
        @dg.asset
        def table(db):
            if db.empty:
                return
            return dg.MaterializeResult(metadata={})
        """,
    "it yields": """
        @dg.asset(output_required=False)
        def table(db):
            if db.empty:
                return
            yield dg.Output(1)
        """,
    "it fails instead": """
        @dg.asset
        def table(db):
            if db.empty:
                raise dg.Failure("empty")
            return 1
        """,
    "every path ends": """
        @dg.asset
        def table(db):
            with db:
                try:
                    return 1
                except KeyError:
                    raise
        """,
    "an inner function may": """
        @dg.asset
        def table(db):
            def key(row):
                if row:
                    return None
                return 1
            return key(db)
        """,
    "a stub": """
        @dg.asset
        def table(): ...

        @dg.asset
        def report(table):
            return 1
        """,
}


@pytest.mark.parametrize("files", FOUND.values(), ids=FOUND)
def test_an_asset_whose_value_is_none_is_found(tmp_path, files):
    assert found(tmp_path, files) == marked("none-stored", files)


@pytest.mark.parametrize("text", NOT_FOUND.values(), ids=NOT_FOUND)
def test_an_asset_that_stores_no_none_is_not(tmp_path, text):
    assert found(tmp_path, f"import dagster as dg\n{dedent(text)}") == []
