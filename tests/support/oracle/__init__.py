"""The oracle of the fault tests: compares what clients were promised with the actual state."""

from support.oracle.judge import Oracle
from support.oracle.observations import Content, Observations, ObservedUpload
from support.oracle.published import published_by

__all__ = ["Content", "Observations", "ObservedUpload", "Oracle", "published_by"]
