"""Clients and tools in TypeScript, with the Node that a wheel brings: `make clients`."""
