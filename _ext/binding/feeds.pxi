# A caller's inputs as a request's views: read as they are where nothing is in the way, else converted first.

# Sets of shapes that are remembered as checked.
cdef size_t MOST_CHECKED = 4096
# Converting more numbers takes milliseconds.
MANY_NUMBERS = 1 << 20
cdef Py_ssize_t MANY = MANY_NUMBERS
# So does making a key of more bytes.
cdef Py_ssize_t MANY_BYTES = 1 << 20


class TooLongForLoop(Exception):
    """The inputs of a request are not to be converted on the event loop's thread."""


cdef class TakenFeeds:
    """A caller's inputs as the core takes them without a second look."""
    cdef list arrays
    cdef bytes key  # of the cache; None where there is none


cdef class FeedReader:
    """Reads the inputs that a model takes.

    Parameters
    ----------
    inputs, rows_follow_batch, normalise, check_shapes
        As of Core.
    """
    cdef tuple names
    cdef vector[int] dtypes
    cdef vector[Shape] shapes
    cdef vector[cbool] shape_known
    cdef cbool rows_follow_batch
    cdef object normalise
    cdef object check_shapes
    cdef unordered_set[uint64_t] checked  # signatures

    def __init__(self, inputs, bint rows_follow_batch, normalise, check_shapes):
        cdef Shape shape
        cdef size_t axis
        self.names = tuple(name for name, _, _ in inputs)
        self.rows_follow_batch = rows_follow_batch
        self.normalise = normalise
        self.check_shapes = check_shapes
        for _, dtype, dims in inputs:
            self.dtypes.push_back(DTYPE_NAMES.index(dtype))
            shape.rank = len(dims or ())
            for axis in range(shape.rank):
                shape.dims[axis] = dims[axis]
            self.shapes.push_back(shape)
            self.shape_known.push_back(dims is not None)

    cdef read(self, feeds, Request* target):
        """Sets the request's inputs, and has it own what keeps their memory."""
        arrays = self.arrays_of(feeds)
        self.view(arrays, target)
        if self.rows_follow_batch:
            target.rows = target.inputs.front().shape.dims[0]
        target.signature = signature_of(target.inputs, not self.rows_follow_batch)
        if self.check_shapes is not None and self.checked.count(target.signature) == 0:
            self.check_shapes([(<object>array).shape for array in arrays])
            if self.checked.size() >= MOST_CHECKED:
                self.checked.clear()
            self.checked.insert(target.signature)
        Py_INCREF(arrays)
        target.own_inputs(<void*>arrays)

    cdef list arrays_of(self, feeds):
        if type(feeds) is TakenFeeds:
            return (<TakenFeeds>feeds).arrays
        arrays = self.plain_arrays(feeds)
        return self.normalise(feeds) if arrays is None else arrays

    cdef view(self, list arrays, Request* target):
        """Sets the request's inputs, whose memory the arrays own."""
        cdef size_t index
        target.inputs.reserve(len(arrays))
        for index in range(self.dtypes.size()):
            target.inputs.push_back(view_of(<cnp.ndarray>arrays[index], self.dtypes[index]))
            target.bytes += target.inputs.back().bytes()

    cdef list plain_arrays(self, feeds):
        """The inputs in order when nothing about them needs a second look, else None."""
        cdef size_t index
        cdef size_t axis
        cdef cnp.ndarray array
        cdef const Shape* declared
        cdef int64_t rows = -1
        cdef int64_t size
        if type(feeds) is not dict or len(<dict>feeds) != <Py_ssize_t>self.dtypes.size():
            return None
        arrays = []
        for index in range(self.dtypes.size()):
            value = (<dict>feeds).get(self.names[index])
            if not is_plain(value, self.dtypes[index]):
                return None
            array = <cnp.ndarray>value
            declared = &self.shapes[index]
            if not self.shape_known[index] or cnp.PyArray_NDIM(array) != <int>declared.rank:
                return None
            for axis in range(declared.rank):
                size = cnp.PyArray_DIM(array, <int>axis)
                if size <= 0 or size > INT_MAX or (declared.dims[axis] >= 0 and declared.dims[axis] != size):
                    return None
            if self.rows_follow_batch:
                size = cnp.PyArray_DIM(array, 0)
                if rows >= 0 and rows != size:
                    return None
                rows = size
            arrays.append(array)
        return arrays

    cdef cbool takes_long(self, feeds, cbool cached) except *:
        """Tells whether so much is to be converted, or made a key of, that an event loop would stand still."""
        cdef Py_ssize_t numbers = 0
        cdef Py_ssize_t size_bytes = 0
        if type(feeds) is TakenFeeds:
            return False
        if isinstance(feeds, cnp.ndarray):
            numbers = cnp.PyArray_SIZE(<cnp.ndarray>feeds)
            size_bytes = cnp.PyArray_NBYTES(<cnp.ndarray>feeds)
        elif isinstance(feeds, (dict, list, tuple)):
            for value in feeds.values() if isinstance(feeds, dict) else feeds:
                if isinstance(value, cnp.ndarray):
                    numbers += cnp.PyArray_SIZE(<cnp.ndarray>value)
                    size_bytes += cnp.PyArray_NBYTES(<cnp.ndarray>value)
        return (cached and size_bytes > MANY_BYTES) or (numbers > MANY and self.plain_arrays(feeds) is None)

    cdef str bucket_of(self, Request* request):
        """Describes what requests of one batch have in common: dtypes, and shapes beyond the rows."""
        cdef size_t index
        cdef size_t axis
        parts = []
        for index in range(request.inputs.size()):
            sizes = ["rows"] if self.rows_follow_batch else []
            for axis in range(len(sizes), request.inputs[index].shape.rank):
                sizes.append(str(request.inputs[index].shape.dims[axis]))
            parts.append(f"{self.names[index]}: {DTYPE_NAMES[self.dtypes[index]]}[{', '.join(sizes)}]")
        return "; ".join(parts)
