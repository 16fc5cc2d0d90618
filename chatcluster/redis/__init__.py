"""Everything that speaks to Redis: connections, part streams, hints and live frames."""
