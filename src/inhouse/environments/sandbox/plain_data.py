"""Plain values between two processes of which one must not trust the other: JSON, with the types that it lacks named.

Never pickle or marshal, which can be made to execute. What is no plain data does not get across: `TypeError`.
"""

from typing import Any

_SEQUENCES = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}


def encode(value: Any) -> Any:
    """A value of None, bool, int, float, complex, str, bytes, list, tuple, set, frozenset and dict, as JSON has it.

    What is derived from one of these is sent as that one. Raises `TypeError` for anything else.
    """
    if value is None or isinstance(value, bool):
        return value
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, bytes | bytearray):
        return {"bytes": value.hex()}
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, dict):
        return {"dict": [[encode(key), encode(each)] for key, each in value.items()]}
    for name, sequence in _SEQUENCES.items():
        if isinstance(value, sequence):
            return {name: [encode(each) for each in value]}
    raise TypeError(f"a {type(value).__name__} is no plain data")


def decode(value: Any) -> Any:
    """What `encode` was given. Raises `ValueError` or `TypeError` where it was not `encode` that made it."""
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise ValueError("a list without its name")
        return value
    ((name, content),) = value.items()
    if name == "bytes":
        return bytes.fromhex(content)
    if name == "complex":
        return complex(*content)
    if name == "dict":
        return {decode(key): decode(each) for key, each in content}
    return _SEQUENCES[name](decode(each) for each in content)
