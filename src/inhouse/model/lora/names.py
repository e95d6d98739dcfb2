"""What the parameters of adapters are called."""


def is_adapter(name: str) -> bool:
    """Whether a parameter of this name is one of an adapter's."""
    return "lora_" in name.rpartition(".")[2]
