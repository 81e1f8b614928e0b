# Paddle's library, and the process-wide things around it.

cdef class PaddleLibrary:
    """Paddle's C++ inference API in a library that is loaded already.

    `cpu_place` is the address of a phi::CPUPlace that stays as long as the process.
    """
    cdef Abi abi
    cdef OneDnnSymbols onednn
    cdef const Place* cpu_place
    cdef readonly tuple missing

    def __init__(self, str path, uintptr_t cpu_place):
        self.abi = Abi.load(path.encode())
        self.cpu_place = <const Place*>cpu_place
        self.onednn = OneDnnSymbols.load(self.abi, self.cpu_place)
        self.missing = tuple(name.decode() for name in self.abi.missing)

    def program_file(self, uintptr_t config):
        """The program path that a paddle::AnalysisConfig at this address holds."""
        cdef const Config* pointer = <const Config*>config
        return self.abi.program_file(pointer).decode()

    @property
    def empties_onednn_cache(self):
        """Whether oneDNN's kernel cache can be emptied."""
        return self.onednn.complete()


cdef class OneDnnBudget:
    """For Paddle's Python run(): empties oneDNN's kernel cache after `max_shapes` input shapes.

    To be made, used and closed on the thread that runs the predictor.
    """
    cdef OneDnnCache* cache

    def __cinit__(self, PaddleLibrary library, size_t max_shapes):
        self.cache = new OneDnnCache(library.onednn, max_shapes)

    def close(self):
        """Empties the cache of this thread for the last time."""
        del self.cache
        self.cache = NULL

    def before_run(self, shapes):
        """To be called before each run with its input shapes."""
        self.cache.before_run(<uint64_t>(hash(tuple(shapes)) & 0xFFFFFFFFFFFFFFFF))


cdef class predictor_lock:
    """Context manager: the process-wide lock under which predictors are made, cloned and destroyed."""
    def __enter__(self):
        with nogil:
            c_predictor_lock().lock()

    def __exit__(self, *_):
        c_predictor_lock().unlock()


cdef class OneDnnShelterAround:
    """Context manager, under predictor_lock: oneDNN's kernels of running predictors outlive a load."""
    cdef PaddleLibrary library
    cdef OneDnnShelter* shelter

    def __cinit__(self, PaddleLibrary library not None):
        self.library = library

    def __enter__(self):
        self.shelter = new OneDnnShelter(self.library.onednn)

    def __exit__(self, *_):
        del self.shelter
        self.shelter = NULL


def onednn_cache_clears():
    """How often an instance of this process has emptied its part of oneDNN's kernel cache."""
    return onednn_clears().load()


def mallopt(int parameter, int value):
    """glibc's mallopt(3). True when it took effect."""
    return c_mallopt(parameter, value) == 1
