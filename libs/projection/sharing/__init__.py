"""Processes share folding: each tells that it lives, and takes its fair share of the ranges.

Nobody assigns anything. A range is taken and given up by conditional updates of its row; see
docs/adr/0030. `shares` says what is whose share, `dividing` splits and merges ranges, `beginning`
begins generations, `living` tells that a process lives, and `crew` runs what this one has taken.
"""

from libs.projection.sharing.crew import Crew

__all__ = ["Crew"]
