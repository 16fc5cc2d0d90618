"""All workloads, in the order in which they are run."""

from __future__ import annotations

from bench.bench import Workload
from bench.workloads import first_token, stream, turns

WORKLOADS: tuple[Workload, ...] = (first_token.WORKLOAD, turns.WORKLOAD, stream.WORKLOAD)
BY_NAME = {workload.name: workload for workload in WORKLOADS}
