# Element types and arrays: NumPy's view of what the core holds, and the core's of NumPy's arrays.

NUMPY_DTYPES = {
    name: np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name) for name in DTYPE_NAMES
}
MAX_RANK = kMaxRank
cdef int TYPE_NUMBERS[10]
for _index, _name in enumerate(DTYPE_NAMES):
    TYPE_NUMBERS[_index] = NUMPY_DTYPES[_name].num


cdef DType dtype_from_index(int index) noexcept:
    return <DType><unsigned char>index


cdef int index_of_type(int type_number) noexcept:
    """The core's number of a NumPy type, -1 for one it does not know."""
    cdef int index
    for index in range(10):
        if TYPE_NUMBERS[index] == type_number:
            return index
    # NumPy has two names for the 64-bit integer of some platforms.
    if type_number == cnp.NPY_LONGLONG:
        return index_of_type(cnp.NPY_INT64)
    return -1


cdef object array_over(DType dtype, const Shape& shape, void* memory):
    """A writable array, whose memory somebody has to free."""
    cdef cnp.npy_intp dims[9]
    cdef size_t axis
    for axis in range(shape.rank):
        dims[axis] = shape.dims[axis]
    return PyArray_SimpleNewFromData(<int>shape.rank, dims, TYPE_NUMBERS[<int><unsigned char>dtype], memory)


cdef object array_owning(DType dtype, const Shape& shape, void* memory):
    """A writable array that frees `memory` (from malloc) when it goes."""
    array = array_over(dtype, shape, memory)
    PyArray_ENABLEFLAGS(<cnp.ndarray>array, cnp.NPY_ARRAY_OWNDATA)
    return array


cdef object array_of(OwnedTensor& tensor):
    """A writable array of a result's own memory."""
    if not tensor.recycled:
        return array_owning(tensor.dtype, tensor.shape, tensor.data.release())
    # The capsule comes first: whatever fails, the memory has one owner.
    capsule = PyCapsule_New(tensor.data.get(), NULL, recycle)
    array = array_over(tensor.dtype, tensor.shape, tensor.data.release())
    cnp.set_array_base(<cnp.ndarray>array, capsule)
    return array


cdef void recycle(object capsule) noexcept:
    SpareBlocks.shared().give(Memory(PyCapsule_GetPointer(capsule, NULL)))


cdef TensorView view_of(cnp.ndarray array, int dtype_index) noexcept:
    cdef TensorView view
    cdef int axis
    view.dtype = dtype_from_index(dtype_index)
    view.shape.rank = cnp.PyArray_NDIM(array)
    for axis in range(cnp.PyArray_NDIM(array)):
        view.shape.dims[axis] = cnp.PyArray_DIM(array, axis)
    view.data = cnp.PyArray_DATA(array)
    return view


cdef cbool is_plain(object value, int dtype_index) noexcept:
    """An array the core can read as it is."""
    if type(value) is not np.ndarray:
        return False
    cdef cnp.ndarray array = <cnp.ndarray>value
    return (
        dtype_index >= 0
        and index_of_type(cnp.PyArray_TYPE(array)) == dtype_index
        and cnp.PyArray_NDIM(array) <= <int>kMaxRank
        and cnp.PyArray_ISCARRAY_RO(array)
    )


def tolerance_of(dtype):
    """The relative difference within which results of this dtype count as equal; 0 for integers."""
    return c_tolerance_of(dtype_from_index(index_of_type(np.dtype(dtype).num)))


def largest_magnitude(array):
    """The largest finite magnitude of an array; 0 of integers."""
    plain = np.ascontiguousarray(array)
    return c_largest_magnitude(view_of(<cnp.ndarray>plain, index_of_type(plain.dtype.num)))


def compare(a, b, double largest=0):
    """(max|a - b| / max|b|, whether the two are equal within the tolerance) of two arrays of one dtype and shape.

    The first is infinite where only one is a number. `largest` is the largest value that this output has had in any
    run: what is small beside it is noise.
    """
    cdef DType dtype
    cdef Comparison found
    left, right = np.ascontiguousarray(a), np.ascontiguousarray(b)
    if left.dtype != right.dtype or left.shape != right.shape:
        return float("inf"), False
    dtype = dtype_from_index(index_of_type(left.dtype.num))
    found = c_compare(
        dtype, cnp.PyArray_DATA(<cnp.ndarray>left), cnp.PyArray_DATA(<cnp.ndarray>right), left.size)
    if found.difference == 0:
        return 0.0, True
    equal = found.difference <= c_allowed_difference(dtype, found.magnitude, largest)
    return (found.difference / found.magnitude if found.magnitude > 0 else float("inf")), equal


def differs_by_ties(a, b, source, double largest=0):
    """Tells whether integers of equal shape differ only where they name values of `source` that are as good as equal.

    `source` is a float output of the run that gave `b`; `largest` is the largest value that it has had in any run.
    """
    integers, others, floats = np.ascontiguousarray(a), np.ascontiguousarray(b), np.ascontiguousarray(source)
    return c_differs_by_ties(
        view_of(<cnp.ndarray>integers, index_of_type(integers.dtype.num)),
        view_of(<cnp.ndarray>others, index_of_type(others.dtype.num)),
        view_of(<cnp.ndarray>floats, index_of_type(floats.dtype.num)),
        largest)
