"""Checks data against customers' JSON Schemas in a process of its own, which a deadline can end."""
