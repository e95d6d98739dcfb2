"""Clients of other people's endpoints: evaluation, arena and gateway share them. No torch."""
