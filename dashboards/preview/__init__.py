"""Draws a board from a live run: its panels where they stand, with what its queries give.

A preview for eyes, made by a renderer of our own; not a picture of Grafana, and it does not look
like one. `python -m dashboards.preview` runs Taximeter against a scripted upstream, PostgreSQL and
Prometheus for a while and writes a PNG for each board.
"""
