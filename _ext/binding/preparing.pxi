# A call's arguments as a request.

cdef RequestPtr prepare(Core core, feeds, timeout, outputs, priority) except *:
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
    if outputs is None:
        request.get().wanted = core.all_outputs
    else:
        select(core, request.get(), outputs)
    core.feeds.read(feeds, request.get())
    return request


cdef select(Core core, Request* target, outputs):
    if isinstance(outputs, (str, bytes)) or not isinstance(outputs, (list, tuple)):
        raise InvalidInput(f"outputs must be a list of output names, not {shown(outputs)}")
    if not outputs:
        raise InvalidInput("outputs is empty; name at least one, or leave it out for all")
    for name in outputs:
        place = core.output_places.get(name) if isinstance(name, str) else None
        if place is None:
            raise InvalidInput(
                f"there is no output {shown(name)}; the model has {listed(core.output_names)}")
        target.wanted.push_back(<uint32_t>place)
