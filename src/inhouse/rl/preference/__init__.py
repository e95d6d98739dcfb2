"""Preference tuning: of two answers to one prompt the better one is to become likelier."""
