"""Path validation and truststore policy (RFC 5280 §6): bytes and a time in, `Verified` or `Refused` out. Pure.

`certificate` parses (`der` and `raw`: what the library re-encodes; `oddities`: what it warns of), `names` compares
names, `policy` is what a truststore demands · `validate` is the way in: `building` searches on a budget, `signatures`
verifies the links, and on each `path` the nine checks are judged by `structure`, `checks`, `name_constraints`,
`policies` and `spiffe`, whose `evidence` is what `explain`, logs and the admin page show · `hostname` is for servers'
certificates (RFC 9525).
"""
