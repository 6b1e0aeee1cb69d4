"""`mlops-assets exporter`: what Dagster's storage, our records and the ledger say, as metrics for Prometheus."""
