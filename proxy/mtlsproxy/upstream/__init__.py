"""Lends connections to upstream servers."""
