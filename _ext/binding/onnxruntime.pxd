# What the binding uses of the C++ headers. onnxruntime behind its C interface.
from libc.stdint cimport int64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

from instance_factories cimport CppBackendFactory
from requests cimport DType


cdef extern from "onnxruntime/ort_api.h" namespace "paddleinfer::onnxruntime" nogil:
    cppclass OrtApi "paddleinfer::onnxruntime::Api":
        string version
        string problem

        @staticmethod
        OrtApi load(const char* path) except +

    cbool find_dtype(int type, DType&) noexcept


cdef extern from "onnxruntime/ort_session.h" namespace "paddleinfer::onnxruntime" nogil:
    cppclass OrtTensor "paddleinfer::onnxruntime::Tensor":
        string name
        int type
        vector[int64_t] dims

    cppclass LoadedModel:
        LoadedModel(OrtApi, const string& path, int threads) except +
        const vector[OrtTensor]& inputs() noexcept
        const vector[OrtTensor]& outputs() noexcept


cdef extern from "onnxruntime/ort_backend.h" namespace "paddleinfer::onnxruntime" nogil:
    cppclass TensorNames:
        vector[string] inputs
        vector[string] outputs

    CppBackendFactory ort_backend(shared_ptr[LoadedModel], const TensorNames&) except +
