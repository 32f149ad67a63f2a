"""Peers that mean no good: what they send, who else is served meanwhile, and what must hold afterwards."""
