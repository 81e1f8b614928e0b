# What the values of the core's enumerations are called, in their order.

DTYPE_NAMES = tuple(name_of_dtype(<DType><unsigned char>place).decode() for place in range(kDTypes))
ADMISSIONS = tuple(name_of_admission(<Admission><unsigned char>place).decode() for place in range(kAdmissions))
POLICIES = tuple(name_of_policy(<Policy><unsigned char>place).decode() for place in range(kPolicies))
DISPATCH_REASONS = tuple(
    name_of_reason(<DispatchReason><unsigned char>place).decode() for place in range(kDispatchReasons))
OUTCOMES = tuple(name_of_outcome(<Outcome><unsigned char>place).decode() for place in range(kOutcomes))


cdef str reason_name(DispatchReason reason):
    cdef Py_ssize_t place = <Py_ssize_t><unsigned char>reason
    return DISPATCH_REASONS[place]


cdef str outcome_name(Outcome outcome):
    cdef Py_ssize_t place = <Py_ssize_t><unsigned char>outcome
    return OUTCOMES[place]
