"""Measuring candidates: the protocol, the host process and its children."""

from tuner.measure.protocol import MeasureBatch, Measurer

__all__ = ["MeasureBatch", "Measurer"]
