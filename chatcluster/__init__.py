"""chatcluster: durable AI chats on several replicas."""

__version__ = "0.1.0"
