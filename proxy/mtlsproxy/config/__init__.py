"""The configuration file: a frozen model, YAML with positions, and the JSON Schema made from the model."""
