"""Coordination on Redis: chunk store, ledger and work queue of every deployment past one machine.

Connections are in `connection.py` (one server or a cluster behind one object), names of keys in
`keys.py`, what a server must be like in `checks.py`; Lua scripts in `lua/`.
"""
