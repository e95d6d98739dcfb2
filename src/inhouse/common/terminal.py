"""Other people's text on a terminal: shown, never obeyed."""

import unicodedata


def visible(text: str) -> str:
    """The text with signs for what a terminal obeys or hides: escapes, marks of direction. Line ends stay."""
    return text if text.isascii() and text.isprintable() else "".join(map(_sign, text))


def _sign(character: str) -> str:
    code = ord(character)
    if character in "\n\t":
        return character
    if code < 32:
        return chr(0x2400 + code)  # Unicode's pictures of the control characters
    if character == " " or unicodedata.category(character) not in ("Cc", "Cf", "Co", "Cn", "Zl", "Zp", "Zs"):
        return character
    return f"<U+{code:04X}>"
