"""Calls of tools: how models write them, how they are read, and the grammars of those that must be made."""
