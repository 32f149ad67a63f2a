"""Our side of associations that we open."""
