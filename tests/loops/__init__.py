"""Scenarios: the loops of several replicas, in one process and on a clock that jumps."""
