"""The habits, one module each: pure functions from a parsed project to what they find in it."""

from mlops_assets.doctor.findings import Rule
from mlops_assets.doctor.rules import (
    gpu_tags,
    judged_rows,
    newest_wins,
    none_stored,
    pickles,
    secrets,
    swallowed_errors,
    unpinned,
    unseeded,
    untested_checks,
)

RULES = (
    Rule(
        "swallowed-error",
        "A green result from a swallowed error",
        "The run is green, so nobody looks, while what it left behind is missing or made up.",
        swallowed_errors.find,
    ),
    Rule(
        "none-stored",
        "None stored as an asset",
        "None replaces the last good value under a green materialization, and what reads it breaks later, far away.",
        none_stored.find,
    ),
    Rule(
        "unseeded",
        "Randomness without a seed",
        "The same data give another result each time: a change in a metric means nothing, no model can be made again.",
        unseeded.find,
    ),
    Rule(
        "judged-rows",
        "Fitted or tuned on the rows that judge",
        "The figure that decides the release has seen its own answers, so it is better than production will be.",
        judged_rows.find,
    ),
    Rule(
        "newest-wins",
        "The newest file or run as the champion",
        "What was written last may be rejected, half-written or unjudged, and it serves without anyone's decision.",
        newest_wins.find,
    ),
    Rule(
        "pickle",
        "A pickled model",
        "Whoever can write the file can run code where it is loaded, and the next version of a library breaks it.",
        pickles.find,
    ),
    Rule(
        "secret",
        "A secret in code or configuration",
        "It is in the history, in every copy and image, and in the UI that shows run config, and can only be replaced.",
        secrets.find,
    ),
    Rule(
        "gpu-tag",
        "Kubernetes resources asked of an executor that does not listen",
        "Only an executor for Kubernetes reads a step's tags: elsewhere it runs without them, and says nothing.",
        gpu_tags.find,
    ),
    Rule(
        "untested-check",
        "A check without a test",
        "A check that cannot fail looks like one that always passes, until bad data are through.",
        untested_checks.find,
    ),
    Rule(
        "unpinned",
        "An environment that is not pinned",
        "The next build installs other versions than those tested, and an old model can no longer be made or loaded.",
        unpinned.find,
    ),
)
