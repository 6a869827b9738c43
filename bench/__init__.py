"""Benchmarks of the relay and the recorder, beside nginx and a plain aiohttp handler.

`python -m bench` (or `make bench`) runs them all and writes the table of `bench/README.md`.
What is measured and how is said there and in `bench/__main__.py`.
"""
