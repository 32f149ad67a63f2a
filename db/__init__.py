"""The results database, which is also the queue."""
