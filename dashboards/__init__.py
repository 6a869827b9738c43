"""The Grafana boards: their sources, what composes them, what checks them, what previews them.

    boards/      one YAML file a board: the source
    generated/   the JSON that Grafana loads: the product, rebuilt by `make dashboards`
    kit/         composes the one from the other
    lint/        what a board must keep to
    check/       the boards against Grafana's own types
    preview/     draws a board from a live run, without Grafana

Development only: nothing here is part of the wheel.
"""
