"""The one TOML file that says everything about a model: read, checked, every derived number with its rule."""
