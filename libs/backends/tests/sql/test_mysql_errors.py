"""Tests of the classification of MySQL and MariaDB error codes."""

from __future__ import annotations

import pytest
from pymysql.err import OperationalError

from sluice_backends.sql.dialect import Fault
from sluice_backends.sql.mysql.errors import code_of, fault_of_code


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        (1205, Fault.CONTENDED),
        (1213, Fault.CONTENDED),
        (3101, Fault.CONTENDED),
        (0, Fault.UNAVAILABLE),
        (1040, Fault.UNAVAILABLE),
        (1290, Fault.UNAVAILABLE),
        (1927, Fault.UNAVAILABLE),
        (2003, Fault.UNAVAILABLE),
        (2006, Fault.UNAVAILABLE),
        (2013, Fault.UNAVAILABLE),
        (3032, Fault.UNAVAILABLE),
        (3168, Fault.UNAVAILABLE),
        (1044, Fault.ACCESS_DENIED),
        (1045, Fault.ACCESS_DENIED),
        (1049, Fault.ACCESS_DENIED),
        (1054, Fault.DEFECT),
        (1062, Fault.DEFECT),
        (1064, Fault.DEFECT),
        (1406, Fault.DEFECT),
        (-1, Fault.DEFECT),
    ],
)
def test_error_code_has_one_fault(code: int, fault: Fault) -> None:
    assert fault_of_code(code) is fault


def test_code_is_first_argument_of_driver_error() -> None:
    assert code_of(OperationalError(2013, "Lost connection")) == 2013
    assert code_of(OperationalError("no number")) == -1
    assert code_of(ValueError()) == -1
    assert code_of(None) == -1
