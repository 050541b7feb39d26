"""Where work comes from: Kafka, the event log, SQS, store notifications."""
