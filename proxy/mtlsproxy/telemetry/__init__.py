"""Counters, histograms and the access log: plain integers and tuples on the request path, rendered off it."""
