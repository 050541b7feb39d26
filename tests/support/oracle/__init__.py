"""The oracle of the fault tests: what clients were promised, held against what is there.

    oracle = Oracle()
    async with Recorder(server.address, oracle).serving() as recorder:
        ...                                       # clients upload through recorder.address
    await oracle.settle(wire)                     # finish what faults left unfinished
    await oracle.check(wire, deployment, published_by(deployment))

It hears what clients and server say (recorder.py), whatever the client is made of, and asks over
gRPC afterwards, so it judges any deployment alike: embedded, or Redis, S3, Kafka and MySQL.
"""

from support.oracle.judge import Oracle
from support.oracle.observations import Content, Observations, ObservedUpload
from support.oracle.published import published_by

__all__ = ["Content", "Observations", "ObservedUpload", "Oracle", "published_by"]
