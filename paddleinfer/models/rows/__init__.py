"""Whether rows of several requests can share a run of a program, judged operator by operator.

``analysis`` follows each value; ``rules`` and ``move_rules`` say what an operator makes of its rows.
May import: the graph of ``paddleinfer.models``.
"""
