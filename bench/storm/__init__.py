"""The storm: a hundred users before a model server that can take twenty calls at once.

`python -m bench.storm` sends the same users the same way to the same server: straight, through
LiteLLM's proxy where it is to be had, and through Taximeter; and writes what became of them into
`bench/README.md`. How it is measured is said there.
"""
