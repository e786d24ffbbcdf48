"""The whole judgement of a network on labelled structures: ``mlepi eval CHECKPOINT DATA``."""

from mlepi.evaluation.judgement import judge

__all__ = ["judge"]
