"""Fetches what revocation needs from elsewhere, without ever holding up a request, and keeps it across restarts.

rules        which URLs and addresses may be asked, and the one error of this room
names        look-ups of hosts; slots: how many requests go to one at a time
http         a bounded HTTP client that asks only those
budget       what the lists of one host may take together
accept       whether a fetched list may replace the known one
schedule     when to fetch next
cache        last good copies on disk
indexing     lists to index files, index files to mapped lists
messages     what the proxy and the helper process say to each other
helper       the helper process: fetches, verifies, indexes; subscription: one URL in it; memory: given back
at_start     a helper for the large files of a start
link         the helper as a process: started, spoken to, listened to
client       the proxy's side of it
once         a URL looked at once, without a proxy
ocsp_client  OCSP answers, asked for once and kept until they end

`http` and what imports it load aiohttp, which takes a tenth of a second: import them before serving begins.
"""
