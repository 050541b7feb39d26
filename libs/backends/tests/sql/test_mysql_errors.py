"""What is repeated, waited for, told to the operator, or a defect, by the server's number."""

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
def test_a_number_has_one_meaning(code: int, fault: Fault) -> None:
    assert fault_of_code(code) is fault


def test_the_number_is_the_first_thing_that_the_driver_says() -> None:
    assert code_of(OperationalError(2013, "Lost connection")) == 2013
    assert code_of(OperationalError("no number")) == -1
    assert code_of(ValueError()) == -1
    assert code_of(None) == -1
