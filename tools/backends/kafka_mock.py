"""Mock cluster of librdkafka in a separate process: `kafka_mock ADDRESS_FILE`.

Supports enough of Kafka's protocol to produce and consume; keeps everything in memory.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from confluent_kafka import Producer

START_SECONDS = 10.0


def main() -> None:
    announced = Path(sys.argv[1])
    # The cluster belongs to the client that created it and ends with this process.
    owner = Producer({"bootstrap.servers": "127.0.0.1", "test.mock.num.brokers": 1})
    brokers = owner.list_topics(timeout=START_SECONDS).brokers.values()
    unfinished = announced.with_suffix(".unfinished")
    unfinished.write_text(",".join(f"{b.host}:{b.port}" for b in brokers), encoding="utf-8")
    unfinished.rename(announced)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    # Before librdkafka starts its threads, so that only `sigwait` receives the signals.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
