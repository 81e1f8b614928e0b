"""Options as text: flags of a command line, environment variables, and values in TOML files.

Everything is derived from the dataclasses of ``paddleinfer.config``. May import: errors, config.
"""
