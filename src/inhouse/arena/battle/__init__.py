"""Battles between endpoints: pairs drawn with stated probabilities, both asked, a verifier or a judge model votes."""
