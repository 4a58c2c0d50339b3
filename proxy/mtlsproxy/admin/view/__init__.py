"""What the status page shows, section by section: facts in, elements out.

facts           all that one rendering is made of
words           instants, durations and names in words
spark           a course over time as a small picture
section         a section of the page and its table
overview        the first look: is it well, and what is going on
refusals        who was turned away and why, and how often for which reason
clients         who was let in
trust           truststores, and how fresh what tells of revocations is
certificates    what runs out, soonest first
upstreams       where requests go, and whether anybody answers there
configuration   what is in force since when, and what the proxy warns of
"""
