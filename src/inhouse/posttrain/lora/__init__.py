"""Adapters in the stages that train, and in a folder of their own."""
