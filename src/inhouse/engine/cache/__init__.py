"""Keys and values in pages, and which of them a prompt finds again."""
