"""A whole cluster on one machine: processes, servers, their logs."""
