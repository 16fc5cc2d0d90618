"""Workspaces: sandboxes in which chats work, and the way to them.

Imports nothing: the agent, which is in each sandbox, pays for what its packages import.
"""
