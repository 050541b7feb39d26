"""What the numbers of MySQL's and MariaDB's errors ask for. Pure.

The driver sorts errors into a few classes that do not help here: its OperationalError is a lost
connection as well as an unknown column. The numbers are the same for both vendors.
"""

from __future__ import annotations

from typing import Final

from sluice_backends.sql.dialect import Fault

DUPLICATE_KEY: Final = 1062
NULL_REFUSED: Final = 1048
UNKNOWN_DATABASE: Final = 1049
TLS_FAILED: Final = 2026

NOT_ALL_RUN: Final = -2
"""Ours: no server has negative ones."""

PACKET_REFUSED: Final = frozenset(
    {
        NOT_ALL_RUN,
        1064,  # a second statement is an error of syntax where only one is allowed
        *(1148, 1235),  # not allowed, not supported: as proxies may say it
    }
)
"""What several statements in one packet are answered where only single ones are taken."""

_CONTENDED: Final = frozenset(
    {
        1205,  # lock wait timeout: only the statement was undone, so the transaction is rolled back
        1213,  # deadlock: this transaction was chosen to make way
        3101,  # MySQL's group replication: another member committed to the same rows first
        1020,  # MariaDB with snapshot isolation: the row changed since it was read
    }
)
_UNAVAILABLE: Final = frozenset(
    {
        # The connection: cannot be made, went away, was killed, came out of step.
        *(2002, 2003, 2005, 2006, 2012, 2013, 2014, 2045, 2055, 1927, 3169, 4031),
        *range(1158, 1162),
        # The server: no connection left, starting, shutting down, host or user over its limits.
        *(1040, 1053, 1077, 1079, 1129, 1203, 1226, 1317),
        # A failover: the old primary only reads now; a cluster node has no quorum.
        *(1047, 1290, 1792, 1836),
        # MySQL's maintenance: it takes administrators only, or is not to be had just now.
        *(3032, 3168),
        # No room: a table, the disk, or memory for locks and sorting.
        *(3, 28, 1021, 1037, 1038, 1041, 1114, 1206),
    }
)
_ACCESS_DENIED: Final = frozenset(
    {
        *(1044, 1045, 1698),  # wrong password, or no right to this database
        UNKNOWN_DATABASE,
        TLS_FAILED,
        *(1130, 1142, 1143, 1227),  # host, table, column, or statement not allowed
        *(1251, 1820, 1862, 2059, 2061, 3118, 3159, 4151),  # how or whether this user may log in
    }
)


def fault_of_code(code: int) -> Fault:
    """0 is what the driver gives for a connection that was closed under it."""
    if code in _CONTENDED:
        return Fault.CONTENDED
    if code == 0 or code in _UNAVAILABLE:
        return Fault.UNAVAILABLE
    return Fault.ACCESS_DENIED if code in _ACCESS_DENIED else Fault.DEFECT


def code_of(error: BaseException | None) -> int:
    """The number of a driver's error, -1 when it has none."""
    first = error.args[0] if error is not None and error.args else None
    return first if isinstance(first, int) else -1
