"""Taximeter beside nginx, a plain handler and other gateways; and its books by themselves.

`python -m bench.peers` runs it all and writes `bench/report/`: figures, table and plots. What is
measured and how is said there, from `bench/peers/_report.py`.
"""
