"""Reinforcement learning against environments whose verifiers can check an answer."""
