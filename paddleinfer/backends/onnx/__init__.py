"""Models as ONNX: conversion by paddle2onnx, kept in a folder.

May import: models, the core, ``backends.paddle.installed``. paddle2onnx is imported in a child process only.
"""
