# onnxruntime's library, a model that it has loaded, and the backends that run it.

cdef class OrtLibrary:
    """onnxruntime's C interface in the library at this path, which is loaded if it is not yet."""
    cdef OrtApi api

    def __init__(self, str path):
        self.api = OrtApi.load(os.fsencode(path))

    @property
    def version(self):
        """The version of onnxruntime, empty where it does not say."""
        return self.api.version.decode()

    @property
    def problem(self):
        """Why it cannot be used; empty if it can."""
        return self.api.problem.decode("utf-8", "replace")


cdef class OrtModel:
    """A model that is loaded once, for all instances of an engine; the last of them frees it.

    `threads` is how many compute at most, the instances' own included.
    """
    cdef shared_ptr[LoadedModel] model

    def __init__(self, OrtLibrary library not None, str path, int threads):
        cdef string name = os.fsencode(path)
        with nogil:
            self.model = shared_ptr[LoadedModel](new LoadedModel(library.api, name, threads))

    @property
    def inputs(self):
        """(name, dtype, shape) of each input; the dtype is empty where the core has none for it."""
        return described_tensors(self.model.get().inputs())

    @property
    def outputs(self):
        """The same for its outputs."""
        return described_tensors(self.model.get().outputs())


cdef list described_tensors(vector[OrtTensor] tensors):
    cdef list described = []
    cdef DType dtype = <DType>0
    for tensor in tensors:
        name = name_of_dtype(dtype).decode() if find_dtype(tensor.type, dtype) else ""
        described.append((tensor.name.decode("utf-8", "replace"), name, tuple(tensor.dims)))
    return described


cdef class OrtBackends(BackendFactory):
    """Runs a loaded model on each instance's inputs.

    `inputs` and `outputs` are its names for those of the engine, in the engine's order; an input that it does not have
    has an empty name.
    """
    cdef shared_ptr[LoadedModel] model
    cdef TensorNames names

    def __init__(self, OrtModel model not None, inputs, outputs):
        self.model = model.model
        self.names.inputs = [name.encode() for name in inputs]
        self.names.outputs = [name.encode() for name in outputs]

    cdef CppBackendFactory of_instance(self, const shared_ptr[Dispatcher]& dispatcher, size_t instance) except *:
        return ort_backend(self.model, self.names)
