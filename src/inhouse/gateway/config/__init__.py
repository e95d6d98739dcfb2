"""gateway.toml: its tables, how it is read, checked and begun."""
