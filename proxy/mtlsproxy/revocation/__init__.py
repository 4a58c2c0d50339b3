"""Revocation lists to a decision with its evidence (RFC 5280 §5, §6.3). Pure but for `sources.py`: it reads files."""
