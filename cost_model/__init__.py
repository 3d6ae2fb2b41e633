"""Learned prediction of how fast a candidate runs; no I/O but model files."""
