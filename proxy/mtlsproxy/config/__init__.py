"""The configuration file: a frozen model, YAML with positions, and the JSON Schema made from the model.

load          reads the file; `load_config` is the way in
parse         bytes to `LoadedConfig`, or to every error at once
denyfile      the same of a deny file
document      YAML to plain data in which every value has its line
model         the model; listener, truststore, matchers, route, upstream, service: its parts
base          sections and lists; scalars: durations, sizes, addresses
networks      addresses in CIDRs
errors        what is wrong with a file, and where
diagnose      the model's complaints in the operator's words
references    names that dangle or are given twice
availability  what the file can say and this version cannot do yet
weaknesses    choices that are weaker than the default
schema        JSON Schema, for editors
"""
