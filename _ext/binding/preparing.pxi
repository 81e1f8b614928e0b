# A call's arguments as a request.

cdef RequestPtr prepare(Core core, feeds, timeout, outputs, priority, cbool cached=False) except *:
    """`cached`: it may be answered out of the cache, where there is one."""
    cdef RequestPtr request = make_shared[Request]()
    request.get().call_time = monotonic_now()
    core.check_alive()
    if core.closed:
        raise EngineClosed(f"{core.label} is closed")
    if core.dispatcher.get().on_instance_thread():
        raise PaddleInferError(
            f"{core.label} was called from inside its own model, where it would wait for itself")
    request.get().deadline = deadline_after(timeout)
    request.get().waits_for_room = core.wait_when_full
    # True is a number to Python, and 1.0 is equal to one.
    if (type(priority) is not int and not isinstance(priority, np.integer)) or not 0 <= priority <= 2:
        raise InvalidInput(f"priority must be 0 (the most urgent), 1 or 2, not {shown(priority)}")
    request.get().priority = priority
    want(core, request.get(), outputs)
    core.feeds.read(feeds, request.get())
    if cached and core.caches:
        try:
            give_key(request.get(), (<TakenFeeds>feeds).key if type(feeds) is TakenFeeds else key_of(request.get()))
        except BaseException:
            core.take_inputs_back(request)
            raise
    return request


cdef want(Core core, Request* target, outputs):
    """Sets which outputs it wants, None for all."""
    if outputs is None:
        target.wanted = core.all_outputs
        return
    if isinstance(outputs, (str, bytes)) or not isinstance(outputs, (list, tuple)):
        raise InvalidInput(f"outputs must be a list of output names, not {shown(outputs)}")
    if not outputs:
        raise InvalidInput("outputs is empty; name at least one, or leave it out for all")
    for name in outputs:
        place = core.output_places.get(name) if isinstance(name, str) else None
        if place is None:
            raise InvalidInput(
                f"there is no output {shown(name)}; the model has {listed(core.output_places)}")
        target.wanted.push_back(<uint32_t>place)
