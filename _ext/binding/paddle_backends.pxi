# Paddle's predictors as the backends of an engine.

cdef class PaddleBackends(BackendFactory):
    """Makes the root predictor and its clones.

    None of `files` (FileStates) may have changed when Paddle reads them again. With `fall_back` an instance whose run
    fails on oneDNN is made again from one of `fall_back_configs`, which lie at `fall_back_addresses`.
    `deletion`: of how many gigabytes on Paddle frees tensors during a run, and the same where it does without oneDNN;
    below 0: never.
    With `kernel_choice` each instance has one such predictor from the start, for the sizes that it is faster for.
    """
    cdef shared_ptr[Model] model
    cdef const Config* config
    cdef ModelOptions without_onednn
    cdef FallBack fall_back
    cdef KernelChoice kernel_choice
    cdef list fall_back_configs
    cdef vector[uintptr_t] fall_back_addresses
    cdef shared_ptr[HeldConfigs] held

    def __init__(self, PaddleLibrary library not None, uintptr_t config, inputs, outputs, parameters, *,
                 files, bint on_cpu, bint share_weights, bint onednn, deletion,
                 OneDnnKernels onednn_kernels not None, FallBack fall_back=None, KernelChoice kernel_choice=None,
                 list fall_back_configs=None, fall_back_addresses=()):
        cdef ModelOptions options
        cdef FileState state
        options.inputs = [name.encode() for name in inputs]
        options.outputs = [name.encode() for name in outputs]
        options.parameters = [name.encode() for name in parameters]
        for file in files:
            state.path = os.fsencode(file.path)
            state.device, state.inode, state.size = file.device, file.inode, file.size
            state.modified_ns, state.changed_ns = file.modified_ns, file.changed_ns
            options.files.push_back(state)
        options.cpu_place = library.cpu_place
        options.on_cpu = on_cpu
        options.share_weights = share_weights
        options.onednn = onednn
        options.onednn_symbols = library.onednn
        options.onednn_limits = onednn_kernels.limits
        options.onednn_record = onednn_kernels.record
        options.deletion_mode = DeletionMode.of(library.abi, deletion[0])
        options.mkl_buffers = MklBuffers.of(library.abi)
        self.model = make_shared[Model](library.abi, options)
        self.config = <const Config*>config
        self.fall_back = fall_back
        self.updates = SeveralUpdates(part for part in (fall_back, kernel_choice) if part is not None)
        self.kernel_choice = kernel_choice
        if kernel_choice is not None:
            self.inline_runs = <shared_ptr[const InlineRuns]>kernel_choice.choice
        self.fall_back_configs = fall_back_configs
        self.fall_back_addresses = fall_back_addresses
        self.without_onednn = options
        self.without_onednn.onednn = False
        self.without_onednn.deletion_mode = DeletionMode.of(library.abi, deletion[1])
        self.without_onednn.share_weights = False

    cdef CppBackendFactory of_instance(self, const shared_ptr[Dispatcher]& dispatcher, size_t instance) except *:
        cdef cbool root = instance == 0
        if self.fall_back is None:
            return paddle_backend(self.model, self.config, root)
        if self.held.get() == NULL:
            self.held = make_shared[HeldConfigs](
                self.fall_back_addresses, shared_object(dispatcher, self.fall_back_configs))
        cdef CppBackendFactory maker = paddle_backend(
            self.model, self.config, root, self.fall_back.shared, self.without_onednn, self.held)
        if self.kernel_choice is None:
            return maker
        return choosing_backend(maker, self.model, self.without_onednn, self.held, self.kernel_choice.choice)

    def weights(self):
        """(parameters shared, bytes saved by each further instance, why not all are shared)."""
        cdef WeightReport report = self.model.get().weights()
        return (report.shared, report.bytes, report.refusal.decode())
