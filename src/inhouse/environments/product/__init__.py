"""Suites by product task: questions made by code from a seed, each with a checker that gives part of the credit and
says why. What a model wrote runs in `programs` alone, in the sandbox."""
