"""Fuzzing, led by coverage: `python -m tests.hostile.fuzz TARGET --seconds N`.

A target takes any bytes, and raises if a promise does not hold for them. `corpus/` has small inputs
of our own for each, in which a run begins; an input that broke a promise is to be added to it.
"""
