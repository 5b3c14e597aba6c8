"""What hostile code in a container would try. These modules run inside, as a command of the agent would.

The toolbox's Python gets them through its standard input (`runner/attack/entry.py`), so they need nothing of the image,
and the standard library alone. On the host nothing calls them.
"""
