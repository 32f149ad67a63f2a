"""The ways to a destination, one module each: all take what is sent and say what the peer answered."""
