"""Fetches what a peer has (C-MOVE, C-GET); what comes goes the ordinary way through spool and clerk."""
