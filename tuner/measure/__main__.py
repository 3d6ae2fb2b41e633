"""Runs the measuring host: ``python -m tuner.measure DEVICE``."""

import importlib

from tuner.without_torch import keep_torch_out

keep_torch_out()
importlib.import_module("tuner.measure.host").main()
