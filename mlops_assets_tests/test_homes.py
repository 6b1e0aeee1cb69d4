"""What the homes of tests leave behind: nothing that another test could meet."""

import dagster as dg

from mlops_assets_tests.homes import instance_at


def test_a_context_that_outlives_its_instance_breaks_nothing_that_is_loaded_afterwards(tmp_path):
    with instance_at(tmp_path):
        context = dg.build_asset_context(resources={"answer": dg.ResourceDefinition.hardcoded_resource(42)})
    del context
    assert dg.Definitions().get_repository_def().has_job("nothing") is False
