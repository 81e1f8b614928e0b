"""Judges, operator by operator, whether rows of several requests can share a run of a program.

``analysis`` follows each value; ``rules`` and ``move_rules`` say what an operator does to its rows.
May import: the graph of ``paddleinfer.models``.
"""
