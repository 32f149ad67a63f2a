"""The Storage and Verification SCP: associations to durable files in the spool."""
