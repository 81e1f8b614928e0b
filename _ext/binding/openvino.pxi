# OpenVINO's library, a model that it has compiled, and the backends that run it.

cdef class OvLibrary:
    """OpenVINO's C interface in the library at this path, which is loaded if it is not yet."""
    cdef OvApi api

    def __init__(self, str path):
        self.api = OvApi.load(os.fsencode(path))

    @property
    def version(self):
        """The version of OpenVINO, empty where it does not say."""
        return self.api.version.decode()

    @property
    def problem(self):
        """Why it cannot be used; empty if it can."""
        return self.api.problem.decode("utf-8", "replace")


cdef class OvModel:
    """A model that is read once, for all instances of an engine; the last of them frees it.

    With `apart` each instance has a compiled model of its own, and computes on its own thread.
    """
    cdef shared_ptr[OvLoadedModel] model

    def __init__(self, OvLibrary library not None, str path, int instances, int cpu_threads, *, bint apart):
        cdef string name = os.fsencode(path)
        cdef OvThreads threads
        threads.instances, threads.per_instance, threads.apart = instances, cpu_threads, apart
        with nogil:
            self.model = shared_ptr[OvLoadedModel](new OvLoadedModel(library.api, name, threads))

    @property
    def inputs(self):
        """(name, dtype, shape) of each input; the dtype is empty where the core has none for it."""
        return described_ov_tensors(self.model.get().inputs())

    @property
    def outputs(self):
        """The same for its outputs."""
        return described_ov_tensors(self.model.get().outputs())

    def input_index(self, str name):
        """Where the input with this name is among the inputs; negative where there is none."""
        return self.model.get().input_index(name.encode())

    def property(self, str name):
        """What is in force for it, as OpenVINO writes it."""
        return self.model.get().property(name.encode()).decode()


cdef list described_ov_tensors(vector[OvTensorInfo] tensors):
    cdef list described = []
    cdef DType dtype = <DType>0
    for tensor in tensors:
        name = name_of_dtype(dtype).decode() if find_ov_dtype(tensor.type, dtype) else ""
        described.append((tensor.name.decode("utf-8", "replace"), name, tuple(tensor.dims)))
    return described


cdef class OvBackends(BackendFactory):
    """Runs a compiled model on each instance's inputs.

    `inputs` are (name, index among the model's inputs) in the engine's order; an input that the model does not have
    has the index -1.
    """
    cdef shared_ptr[OvLoadedModel] model
    cdef vector[OvInputPlace] places

    def __init__(self, OvModel model not None, inputs):
        cdef OvInputPlace place
        self.model = model.model
        for name, index in inputs:
            place.name, place.index = name.encode(), index
            self.places.push_back(place)

    cdef CppBackendFactory of_instance(self, const shared_ptr[Dispatcher]& dispatcher, size_t instance) except *:
        return ov_backend(self.model, instance, self.places)
