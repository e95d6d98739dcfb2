"""Scores: bits per byte beside a compressor's, exact match on generated problems, answers that end by themselves."""
