"""Classification of MySQL and MariaDB error codes. Pure.

The driver's classes do not help: an OperationalError is a lost connection or an unknown column.
"""

from __future__ import annotations

from typing import Final

from sluice_backends.sql.dialect import Fault

DUPLICATE_KEY: Final = 1062
NULL_REFUSED: Final = 1048
UNKNOWN_DATABASE: Final = 1049
TLS_FAILED: Final = 2026

NOT_ALL_RUN: Final = -2
"""Own code: servers have no negative ones."""

PACKET_REFUSED: Final = frozenset(
    {
        NOT_ALL_RUN,
        1064,  # a second statement is a syntax error where only one is allowed
        *(1148, 1235),  # not allowed, not supported: responses of proxies
    }
)
"""Codes with which a server or proxy refuses several statements in one packet."""

_CONTENDED: Final = frozenset(
    {
        1205,  # lock wait timeout: only the statement was undone, so the transaction is rolled back
        1213,  # deadlock: this transaction is the victim
        3101,  # MySQL's group replication: another member committed to the same rows first
        1020,  # MariaDB with snapshot isolation: the row changed since it was read
    }
)
_UNAVAILABLE: Final = frozenset(
    {
        # The connection: refused, lost, killed, out of sync.
        *(2002, 2003, 2005, 2006, 2012, 2013, 2014, 2045, 2055, 1927, 3169, 4031),
        *range(1158, 1162),
        # The server: no connection left, starting, shutting down, host or user over its limits.
        *(1040, 1053, 1077, 1079, 1129, 1203, 1226, 1317),
        # Failover: the old primary is read-only; a cluster node has no quorum.
        *(1047, 1290, 1792, 1836),
        # Maintenance of MySQL: administrators only, or temporarily unavailable.
        *(3032, 3168),
        # No space: a table, the disk, or memory for locks and sorting.
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
    """Return the class of an error code; both vendors use the same codes.

    The driver reports 0 for a closed connection.
    """
    if code in _CONTENDED:
        return Fault.CONTENDED
    if code == 0 or code in _UNAVAILABLE:
        return Fault.UNAVAILABLE
    return Fault.ACCESS_DENIED if code in _ACCESS_DENIED else Fault.DEFECT


def code_of(error: BaseException | None) -> int:
    """Return the code of a driver error, -1 when it has none."""
    first = error.args[0] if error is not None and error.args else None
    return first if isinstance(first, int) else -1
