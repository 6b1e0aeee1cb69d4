"""The outside world: one need a module. Each resource is a Dagster resource with a real implementation."""
