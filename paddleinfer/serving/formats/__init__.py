"""Paddle Serving's requests and answers, as documents and messages, for its clients and its server alike.

``general_model`` is what its C++ server takes, ``prediction`` what its web services take, ``tensors`` what
both hold. The server in shim/ imports this folder of ``serving``, and no other.
May import: models, errors, sentences.
"""
