"""All cases, by row."""

from . import breaking, chunks, connecting, judging, surviving
from .case import CASES

__all__ = ["CASES"]

_MODULES = (connecting, judging, breaking, chunks, surviving)
CASES.sort(key=lambda case: case.row)
