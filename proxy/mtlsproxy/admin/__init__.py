"""The admin listener: metrics, health, status, JSON API."""
