"""What there is behind the toolbox port. ``composition`` joins toolboxes to the one that a replica has."""
