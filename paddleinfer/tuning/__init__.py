"""Finds the options that serve a model best on this machine, by measuring, and writes them beside it.

``goal`` says what is better, ``settings`` what is tried, ``contest`` who wins a few rounds, and ``search``
goes through the stages; none of them measures anything itself. ``children`` measures, each setting in a
process of its own, whose side is ``child``, under the load of ``load``. ``tune`` puts them together,
and ``report`` and ``writing`` say and write what it found. May import: engine.
"""
