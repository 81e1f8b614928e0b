# Python objects that native threads have let go of.

# Lists of engines that are gone, and of whose threads some still run: nobody else would give back what those leave.
cdef vector[shared_ptr[ReleaseList]] orphans


cdef void release(const shared_ptr[ReleaseList]& objects):
    cdef void* item
    for item in objects.get().take():
        Py_XDECREF(<PyObject*>item)


cdef leave_orphan(shared_ptr[Dispatcher]& dispatcher):
    cdef shared_ptr[ReleaseList] objects = dispatcher.get().releases()
    dispatcher.reset()
    if objects.use_count() > 1:
        orphans.push_back(objects)


cdef release_orphans():
    """Returns what the threads of closed engines have left since; a list is dropped once nobody else holds it."""
    cdef vector[shared_ptr[ReleaseList]] present
    cdef shared_ptr[ReleaseList] objects
    cdef cbool is_last
    orphans.swap(present)  # what is released may come here itself
    for objects in present:
        is_last = objects.use_count() <= 2  # before what it holds is looked at: nothing is added after
        release(objects)
        if not is_last:
            orphans.push_back(objects)


cdef void keep_for_good(const shared_ptr[Dispatcher]& dispatcher):
    new shared_ptr[Dispatcher](dispatcher)
