"""Telling operators by themselves: what is wrong, whom to tell, and that it is over."""
