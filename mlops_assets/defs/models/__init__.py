"""The models: one folder each, with its declaration and its contract."""
