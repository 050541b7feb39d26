"""Client of queues of SQS."""
