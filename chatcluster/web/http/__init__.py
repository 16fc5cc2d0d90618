"""The server below the routes: connections, event streams, what bounds a request."""
