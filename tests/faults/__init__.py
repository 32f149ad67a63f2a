"""A whole node whose programs are killed while scanners send, and what must be true afterwards."""
