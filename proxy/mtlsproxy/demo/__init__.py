"""`mtlsproxy demo`: the whole product on one machine, with clients good and bad to try.

stage     a folder with a PKI, certificates of every kind and the configuration
upstream  a server that answers with what it received
script    what to type, and what it shows
show      puts it on: upstream, proxy and admin in one process, until it is told to stop
"""
