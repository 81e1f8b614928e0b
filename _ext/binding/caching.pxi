# Keys of the cache of results.

KEY_BYTES = 32


cdef bytes key_of(const Request* target):
    """A BLAKE2b digest of all that the results depend on: dtypes, shapes, bytes and the outputs wanted."""
    cdef const TensorView* view
    cdef size_t place
    digest = blake2b(described(target.inputs, target.wanted), digest_size=KEY_BYTES)
    for place in range(target.inputs.size()):
        view = &target.inputs[place]
        # Without the interpreter's lock where there is much of it.
        digest.update(PyMemoryView_FromMemory(<char*>view.data, <Py_ssize_t>view.bytes(), PyBUF_READ))
    return digest.digest()


cdef give_key(Request* target, bytes key):
    target.cache_use.reset(new CacheUse())
    memcpy(target.cache_use.get().key.data(), <const char*>key, target.cache_use.get().key.size())
