"""The seeded worlds behind the demo models, and the deliveries that they send. Nothing here is needed in production."""
