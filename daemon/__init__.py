"""The receiving side: receiver, clerk."""
