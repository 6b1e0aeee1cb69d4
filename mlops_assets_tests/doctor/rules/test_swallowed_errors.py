import pytest

from mlops_assets_tests.doctor.writing import found, marked

FOUND = {
    "an asset that returns a default": """
        import dagster as dg

        @dg.asset
        def accuracy(model):
            try:
                return model.score()
            except Exception:  # <-
                return 0.0
        """,
    "a bare except, under another name of Dagster": """
        from dagster import asset as thing

        @thing(group_name="a")
        def rows(source):
            result = []
            try:
                result = source.rows()
            except:  # <-
                print("no rows today")
            return result
        """,
    "a decorator that the project exports again": {
        "small/common.py": "from dagster import op as step\n",
        "small/ops.py": """
            from small.common import step

            @step
            def load():
                try:
                    return fetch()
                except (ValueError, BaseException) as error:  # <-
                    print(error)
            """,
    },
    "a check that passes when it could not look": """
        import dagster as dg

        @dg.asset_check(asset="rows")
        def has_rows(rows):
            try:
                return dg.AssetCheckResult(passed=len(rows) > 0)
            except Exception as error:  # <-
                return dg.AssetCheckResult(passed=True, description=str(error))
        """,
    "a sensor that skips for any error": """
        import dagster as dg

        @dg.sensor(job_name="load")
        def arrivals(context):
            try:
                return dg.RunRequest()
            except Exception as error:  # <-
                return dg.SkipReason(str(error))
        """,
    "a helper in another module that makes a figure up": {
        "small/scores.py": """
            def score(model):
                try:
                    return model.score()
                except Exception:  # <-
                    return {"accuracy": 0.0, "predictions": []}
            """,
        "small/assets.py": """
            import dagster as dg
            from small import scores as s

            @dg.asset
            def report(model):
                return s.score(model)
            """,
    },
    "suppress": """
        import contextlib
        import dagster as dg

        @dg.asset
        def rows(source) -> None:
            with contextlib.suppress(Exception):  # <-
                source.load()
        """,
}
NOT_FOUND = {
    "a narrow except": "except FileNotFoundError:\n        return []",
    "it raises": "except Exception as error:\n        raise dg.Failure(str(error)) from error",
    "it raises on the last attempt": "except Exception:\n        if attempt == 3:\n            raise\n        return 1",
    "the check fails": "except Exception:\n        yield dg.AssetCheckResult(passed=False)",
}


@pytest.mark.parametrize("files", FOUND.values(), ids=FOUND)
def test_a_blind_handler_after_which_all_is_green_is_found(tmp_path, files):
    got = [each for each in found(tmp_path, files) if each[0] != "untested-check"]
    assert got == marked("swallowed-error", files)


@pytest.mark.parametrize("handler", NOT_FOUND.values(), ids=NOT_FOUND)
def test_a_handler_that_speaks_is_not(tmp_path, handler):
    head = "import dagster as dg\n\n@dg.op\ndef rows(source, attempt):\n    try:\n        return source.rows()"
    assert found(tmp_path, f"{head}\n    {handler}\n") == []


def test_errors_that_are_collected_and_raised_in_the_end_are_not_swallowed(tmp_path):
    text = """
        import dagster as dg

        @dg.asset
        def pages(sites) -> None:
            failed = []
            for site in sites:
                try:
                    site.load()
                except Exception as error:
                    failed.append(error)
            count = len(failed)
            if count > 0:
                raise dg.Failure(f"{count} sites failed")

        @dg.asset
        def retried(site):
            for _ in range(3):
                try:
                    return site.load()
                except Exception as error:
                    print(error)
            raise dg.Failure("three times")
        """
    assert found(tmp_path, text) == []


def test_errors_that_are_collected_and_only_counted_are_swallowed(tmp_path):
    text = """
        import dagster as dg

        @dg.asset
        def pages(context, sites) -> None:
            failed = []
            for site in sites:
                try:
                    site.load()
                except Exception as error:  # <-
                    failed.append(error)
            context.log.info(len(failed))
        """
    assert found(tmp_path, text) == marked("swallowed-error", text)


def test_an_asset_whose_value_is_how_it_went_swallows_nothing(tmp_path):
    text = """
        import dagster as dg

        @dg.asset
        def health(db):
            health = {}
            try:
                db.ping()
                health["db"] = "fine"
            except Exception as error:
                health["db"] = f"error: {error}"
            return health
        """
    assert found(tmp_path, text) == []


def test_a_sensor_that_starts_afresh_after_a_bad_cursor_goes_on_working(tmp_path):
    text = """
        import dagster as dg

        @dg.sensor(job_name="load")
        def arrivals(context):
            try:
                cursor = int(context.cursor)
            except Exception:
                cursor = 0
            return dg.RunRequest(run_key=str(cursor))
        """
    assert found(tmp_path, text) == []


def test_tidying_up_and_code_that_dagster_does_not_run_may_swallow(tmp_path):
    text = """
        import dagster as dg

        @dg.asset
        def rows(source):
            try:
                return source.rows()
            finally:
                try:
                    source.close()
                except Exception:
                    pass

        def elsewhere(source):
            try:
                return source.rows()
            except Exception:
                return []
        """
    assert found(tmp_path, text) == []
