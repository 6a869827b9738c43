"""Admission in virtual time: what would happen to whom, under which load and policy.

`simulate(scenario)` runs the very code that serves calls against users and a model server that
exist in numbers only, and gives a `Report`. One seed gives one run, on every machine. Nothing is
printed, no clock is read, and an hour of a busy service takes seconds.
"""

from taximeter.admission.simulation._report import Report, UserReport
from taximeter.admission.simulation._run import simulate
from taximeter.admission.simulation._scenario import Load, Outage, Scenario, Server

__all__ = ["Load", "Outage", "Report", "Scenario", "Server", "UserReport", "simulate"]
