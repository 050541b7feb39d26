"""Events on Kafka: publisher, consumer, dead letters."""
