"""The rules of the ledger: plain synchronous functions over a tiny storage interface.

Memory and SQLite run exactly these functions; an adapter brings storage and a way to run one of
them as one atomic step. Numbers of rules are those of docs/protocol.md.
"""
