"""Row 8: 1 %, 49 % and 51 % of the rows are bad; the limit is met exactly."""

import pytest

from mlops_assets_tests import toy
from mlops_assets_tests.faults.deliveries import inspected

ROWS = 1000


def with_bad_rows(count):
    frame = toy.rows("2024-01", ROWS)
    frame.loc[: count - 1, "price"] = 1000.0
    return frame


@pytest.mark.fault(8)
@pytest.mark.parametrize(
    ("bad", "limit", "kept"),
    [
        (10, 0.5, True),
        (490, 0.5, True),
        (500, 0.5, True),
        (501, 0.5, False),
        (510, 0.5, False),
        (0, 0.0, True),
        (1, 0.0, False),
        (333, 0.333, True),
        (334, 0.333, False),
        (999, 1.0, True),
        (1000, 1.0, False),
    ],
)
def test_rows_are_quarantined_up_to_the_limit_and_the_partition_refused_above_it(
    bad, limit, kept, tmp_path, record_figure
):
    spec = toy.spec("landing", quality={"max_bad_share": limit})
    found = inspected(tmp_path, spec, {"shop.csv": with_bad_rows(bad)})

    stored = found.quarantined["2024-01-01"]
    record_figure(bad_rows=bad, limit=limit, counted=stored.rows_quarantined, kept=kept)
    assert ("2024-01-01" in found.validated) is kept
    assert (stored.rows_in, stored.rows_quarantined) == (ROWS, bad)
    assert sum(rule.count for rule in stored.broken_rules) == bad
    if kept:
        assert found.validated["2024-01-01"].rows_out == ROWS - bad
    else:
        assert f"{bad} of {ROWS} rows" in found.refused["2024-01-01"]
