"""The admin listener: metrics, health, status page, JSON API, and what it may change.

server       starts and stops it; the rest is imported only then
app          which path leads where
source       what it asks of whoever runs the proxy
guard        who is answered at all; hosts: to which names; connections: how many, and how long they may take
changes      deny, lift, reload; denial: what a denial says
answers      JSON and problem+json
page         the status page, of the sections in `view`; element: its tree; rendering: when it is made anew
events       what happens, as server-sent events; history: what happened before they were asked for
"""
