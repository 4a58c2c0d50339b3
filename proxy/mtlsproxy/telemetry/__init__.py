"""Counters, histograms and logs: plain integers and tuples on the request path, rendered off it.

metrics     the table of all metrics; families: what they are made of
exposition  metrics as Prometheus reads them; traffic: in a dozen numbers
logs        opens all logs
sink        a log's destination: one writer thread each
access_log  a line a request
refusals    who was turned away, folded; recent: the latest with what they presented
audit       refusals and changes, chained by hash; chain: whether that holds
clients     who was accepted
"""
