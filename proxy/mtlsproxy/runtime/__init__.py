"""Turns a configuration into one immutable Snapshot, swaps it whole, and owns start and stop."""
