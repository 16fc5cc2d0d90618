"""All workloads, in the order in which they are run."""

from __future__ import annotations

from bench.bench import Workload
from bench.workloads import (
    capacity,
    claim,
    doors,
    family,
    fan_out,
    first_token,
    idle,
    long_history,
    outside,
    page,
    rejoin,
    requests,
    resume,
    stream,
    takeover,
    tool_step,
    tool_takeover,
    turns,
    workspaces,
)

WORKLOADS: tuple[Workload, ...] = (
    first_token.WORKLOAD,
    outside.WORKLOAD,
    turns.WORKLOAD,
    stream.WORKLOAD,
    fan_out.WORKLOAD,
    capacity.WORKLOAD,
    rejoin.WORKLOAD,
    idle.WORKLOAD,
    claim.WORKLOAD,
    takeover.WORKLOAD,
    tool_step.WORKLOAD,
    tool_takeover.WORKLOAD,
    family.WORKLOAD,
    resume.WORKLOAD,
    long_history.WORKLOAD,
    requests.WORKLOAD,
    doors.WORKLOAD,
    page.WORKLOAD,
    workspaces.WORKLOAD,
)
BY_NAME = {workload.name: workload for workload in WORKLOADS}
