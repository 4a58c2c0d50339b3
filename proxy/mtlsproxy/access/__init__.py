"""Who may do what: matchers, route selection and the Decision with the rule that made it. Pure.

decide    may this client use this route: begin here
router    from host, path and method to a route
paths     every way in which a path can be read
matcher   entries of `allow` and `deny`, compiled; pattern: what their values may say
rules     a list of entries, indexed
lint      what a configuration says and probably does not mean; weaker: where one truststore lets in more
"""
