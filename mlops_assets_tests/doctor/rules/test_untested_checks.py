import pytest

from mlops_assets_tests.doctor.writing import found, marked

CHECKS = {
    "small/checks.py": """
        from dagster import AssetCheckSpec, AssetCheckResult, asset, asset_check as check

        @check(asset="rows")
        def has_rows(rows):  # <-
            return AssetCheckResult(passed=len(rows) > 0)

        @check(asset="rows", name="is_fresh")
        def _fresh(rows):  # <-
            return AssetCheckResult(passed=rows.age < 3)

        @asset(check_specs=[AssetCheckSpec("is_whole", asset="model")])  # <-
        def model(rows):
            yield AssetCheckResult(passed=True)

        def checks_of(name):
            @check(asset=name)
            def has_key(rows):  # <-
                return AssetCheckResult(passed=True)
            return has_key

        @check(asset="elsewhere")
        def told_from_outside(): ...
        """
}
NAMED = {
    "names": "from small.checks import has_rows, checks_of as made\nnamed = 'is_fresh', 'is_whole', made('rows')\n",
    "attributes": "from small import checks\nchecks.has_rows([])\nchecks._fresh([])\n'has_key', 'the check is_whole'\n",
}


def test_a_check_that_no_test_names_is_found(tmp_path):
    assert found(tmp_path, CHECKS) == marked("untested-check", CHECKS)


def test_the_name_of_the_asset_alone_tests_no_check(tmp_path):
    tests = {"tests/test_rows.py": "def test_rows():\n    assert 'rows' and 'model'\n"}
    assert found(tmp_path, CHECKS | tests) == marked("untested-check", CHECKS)


@pytest.mark.parametrize("text", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("path", ["tests/test_checks.py", "small/checks_test.py", "small_tests/checks.py"])
def test_a_check_that_a_test_names_is_not(tmp_path, text, path):
    assert found(tmp_path, CHECKS | {path: text}) == []
