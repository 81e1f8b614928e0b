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
        return self.abi.program_file(pointer).decode("utf-8", "surrogateescape")

    @property
    def has_deletion_mode(self):
        """Whether Paddle's flag for the deletion of tensors is found."""
        return DeletionMode.of(self.abi, 0).flag != NULL

    @property
    def empties_onednn_cache(self):
        """Whether oneDNN's kernel cache can be emptied."""
        return self.onednn.complete()


cdef class OneDnnKernels:
    """How much of oneDNN's kernel cache the instances of one engine may fill, and what they have found out.

    `max_bytes` is for the whole process, `max_shapes` for an instance. `by_renewal`: a predictor that has filled
    its part is made again.
    """
    cdef OneDnnLimits limits
    cdef shared_ptr[OneDnnRecord] record

    def __cinit__(self, size_t max_shapes, uint64_t max_bytes, bint by_renewal=False):
        self.limits.max_shapes = max_shapes
        self.limits.max_bytes = max_bytes
        self.limits.by_renewal = by_renewal
        self.record = make_shared[OneDnnRecord]()

    @property
    def by_renewal(self):
        return self.limits.by_renewal

    def figures(self):
        """Field -> number, as of OneDnnRecord::Figures."""
        cdef OneDnnFigures figures = self.record.get().figures()
        return {
            "emptied": figures.emptied,
            "first_bytes": figures.first_bytes,
            "shape_bytes": figures.shape_bytes,
            "shape_limit": figures.shape_limit,
            "repeated": figures.repeated,
            "new_ns": figures.new_ns,
            "repeat_ns": figures.repeat_ns,
        }


cdef class OneDnnPart:
    """One instance's part of oneDNN's kernel cache, for Paddle's Python run().

    To be made, used and closed on the thread that runs the predictor.
    """
    cdef OneDnnCache* cache

    def __cinit__(self, PaddleLibrary library, OneDnnKernels kernels):
        self.cache = new OneDnnCache(library.onednn, kernels.limits, kernels.record)

    def close(self):
        """Empties the cache of this thread for the last time."""
        del self.cache
        self.cache = NULL

    def before_run(self, shapes):
        """Must be called before each run, with its input shapes."""
        self.cache.before_run(<uint64_t>(hash(tuple(shapes)) & 0xFFFFFFFFFFFFFFFF))

    def after_run(self):
        """Must be called after each run that did not fail."""
        self.cache.after_run()

    @property
    def is_due_for_renewal(self):
        """Whether the predictor is to be made again, with the two calls around the end of the old one."""
        return self.cache.is_due_for_renewal()

    def begin_renewal(self):
        """Before the old predictor goes."""
        self.cache.begin_renewal()

    def end_renewal(self):
        """Must be called after the old predictor has gone."""
        self.cache.end_renewal()


cdef class FallBack(BackendUpdates):
    """Decides what an engine's instances do if a run fails that may not fail without oneDNN.

    Parameters
    ----------
    bare_too
        Whether that is tried for failures without a reason, too.
    on_change
        Called once with the failure's text, after it has helped and all instances change over.
    """
    cdef shared_ptr[CppFallBack] shared
    cdef object on_change

    def __init__(self, bint bare_too, on_change):
        self.shared = make_shared[CppFallBack](<cbool>bare_too)
        self.on_change = on_change

    @property
    def in_force(self):
        """Whether instances are to do without oneDNN."""
        return self.shared.get().in_force()

    def forbid_bare(self):
        """Stops trials for failures without a reason."""
        self.shared.get().forbid_bare()

    def may_try(self, str failure):
        """Tells whether a predictor without oneDNN is to be made for a failure, which counts as a trial."""
        return self.shared.get().may_try(failure.encode("utf-8", "replace"))

    def helped(self, str failure):
        """It did: from now on all instances are to do without."""
        self.shared.get().helped(failure.encode("utf-8", "replace"))

    cdef poll(self):
        """Calls `on_change` if it has just come into force."""
        if self.shared.get().take_change():
            self.on_change(self.shared.get().reason().decode("utf-8", "replace"))


cdef class KernelChoice(BackendUpdates):
    """Which shapes of input an engine's instances run without oneDNN.

    Parameters
    ----------
    on_change
        Called after each decision with the number of such shapes, and with the reason where none will ever be one.
    """
    cdef shared_ptr[CppKernelChoice] choice
    cdef object on_change

    def __init__(self, on_change):
        self.choice = make_shared[CppKernelChoice]()
        self.on_change = on_change

    cdef poll(self):
        if self.choice.get().take_change():
            self.on_change(
                self.choice.get().plain_shapes(), self.choice.get().reason().decode("utf-8", "replace"))


cdef class predictor_lock:
    """Context manager: the process-wide lock under which predictors are made, cloned and destroyed."""
    def __enter__(self):
        with nogil:
            c_predictor_lock().lock()

    def __exit__(self, *_):
        c_predictor_lock().unlock()


cdef class DeletionScope:
    """Context manager around the making of a predictor and its first run: when Paddle frees tensors during its runs.

    It does from so many gigabytes on; below 0: never.
    """
    cdef DeletionMode mode
    cdef CppDeletionScope* scope

    def __cinit__(self, PaddleLibrary library not None, double deletion_gb):
        self.mode = DeletionMode.of(library.abi, deletion_gb)

    def __enter__(self):
        with nogil:
            self.scope = new CppDeletionScope(self.mode)

    def __exit__(self, *_):
        del self.scope
        self.scope = NULL


cdef class OneDnnCacheGuard:
    """Context manager, under predictor_lock: oneDNN's kernels of running predictors outlive a load."""
    cdef PaddleLibrary library
    cdef CppOneDnnCacheGuard* guard

    def __cinit__(self, PaddleLibrary library not None):
        self.library = library

    def __enter__(self):
        self.guard = new CppOneDnnCacheGuard(self.library.onednn)

    def __exit__(self, *_):
        del self.guard
        self.guard = NULL


def is_out_of_memory(str failure):
    """Tells whether the text of a failure says that there was no memory, or no thread."""
    return says_out_of_memory(failure.encode("utf-8", "replace"))


def onednn_cache_clears():
    """How often an instance of this process has emptied its part of oneDNN's kernel cache."""
    return onednn_clears().load()


def mallopt(int parameter, int value):
    """glibc's mallopt(3). True when it took effect."""
    return c_mallopt(parameter, value) == 1


def trim_malloc():
    """Gives what is free in malloc's heaps back to the system, where the C library can (glibc)."""
    with nogil:
        c_trim_malloc()
