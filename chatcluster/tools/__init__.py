"""Tools that a chat may call, behind the ``Toolbox`` port."""
