"""Who may do what: matchers, route selection and the Decision with the rule that made it. Pure."""
