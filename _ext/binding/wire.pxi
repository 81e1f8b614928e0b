# Messages in the wire format of protocol buffers, before they are parsed.

WIRE_MOST_FIELDS = kMostFields
_WIRE_FAULTS = {
    <unsigned char>WireFault.none: "",
    <unsigned char>WireFault.damaged: "damaged",
    <unsigned char>WireFault.fields: "fields",
    <unsigned char>WireFault.rest: "rest",
    <unsigned char>WireFault.times: "times",
    <unsigned char>WireFault.bytes: "bytes",
}
# Reading so many bytes of numbers takes longer than another thread's turn with the GIL.
cdef size_t LONG_NUMBERS_BYTES = 1 << 18


cdef class WireTable:
    """The limits of a kind of message.

    Parameters
    ----------
    messages
        Of each type, its own first: (number, how often, bytes of each at most, place of its type or -1, whether it is
        cut) of each field.
    max_fields
        Of a whole message.
    max_rest_bytes
        Of what is not cut.
    """
    cdef vector[WireMessage] messages
    cdef WireLimits limits

    def __init__(self, messages, uint64_t max_fields, uint64_t max_rest_bytes):
        cdef WireField field
        cdef WireMessage message
        for fields in messages:
            if len(fields) > <int>kMostFields:
                raise ValueError(f"a message has {len(fields)} fields, and {kMostFields} is the most")
            message.clear()
            for field.number, field.most, field.most_bytes, field.message, field.is_cut in fields:
                message.push_back(field)
            self.messages.push_back(message)
        self.limits.fields = max_fields
        self.limits.rest_bytes = max_rest_bytes

    def walk(self, bytes body):
        """(fault, type and number of the field it is of, what was found, the rest, what was cut) of a message.

        Cut fields are (which of its message's like it is of, number, first byte, bytes); they, and fields that the
        table does not know, are not in the rest. A fault is "" or one of the words of Fault in wire.h.
        """
        cdef const unsigned char* data = body
        cdef Walked walked = c_walk(data, len(body), self.messages, self.limits)
        cut = [(span.owner, span.number, span.first, span.size) for span in walked.cut]
        return _WIRE_FAULTS[<unsigned char>walked.fault], walked.message, walked.number, walked.found, walked.rest, cut


def count_wire_numbers(bytes body, size_t first, size_t size, uint64_t max_steps):
    """(fault, how many numbers each field has, by its number) of an InferTensorContents within a message."""
    cdef const unsigned char* data = body
    cdef WireCounts counts
    cdef WireFault fault
    if first > <size_t>len(body) or size > <size_t>len(body) - first:
        raise ValueError("the range is not of the message")
    if size > LONG_NUMBERS_BYTES:
        with nogil:
            fault = c_count_numbers(data, first, size, max_steps, counts)
    else:
        fault = c_count_numbers(data, first, size, max_steps, counts)
    return _WIRE_FAULTS[<unsigned char>fault], [counts[number] for number in range(9)]


def read_wire_numbers(bytes body, size_t first, size_t size, uint32_t field, cnp.ndarray array not None):
    """Fills an array of the field's own dtype with its numbers, which have been counted; False for damaged ones."""
    cdef const unsigned char* data = body
    cdef void* out = cnp.PyArray_DATA(array)
    cdef cbool whole
    if size > LONG_NUMBERS_BYTES:
        with nogil:
            whole = c_read_field(data, first, size, field, out)
    else:
        whole = c_read_field(data, first, size, field, out)
    return whole
