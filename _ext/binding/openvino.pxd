# What the binding uses of the C++ headers. OpenVINO behind its C interface.
from libc.stdint cimport int64_t
from libcpp cimport bool as cbool
from libcpp.memory cimport shared_ptr
from libcpp.string cimport string
from libcpp.vector cimport vector

from instance_factories cimport CppBackendFactory
from requests cimport DType


cdef extern from "openvino/ov_api.h" namespace "paddleinfer::openvino" nogil:
    cppclass OvApi "paddleinfer::openvino::Api":
        string version
        string problem

        @staticmethod
        OvApi load(const char* path) except +

    cbool find_ov_dtype "paddleinfer::openvino::find_dtype"(int type, DType&) noexcept


cdef extern from "openvino/ov_model.h" namespace "paddleinfer::openvino" nogil:
    cppclass OvTensorInfo "paddleinfer::openvino::TensorInfo":
        string name
        int type
        vector[int64_t] dims

    cppclass OvThreads "paddleinfer::openvino::Threads":
        int instances
        int per_instance
        cbool apart

    cppclass OvLoadedModel "paddleinfer::openvino::LoadedModel":
        OvLoadedModel(OvApi, const string& path, const OvThreads&) except +
        const vector[OvTensorInfo]& inputs() noexcept
        const vector[OvTensorInfo]& outputs() noexcept
        int input_index(const string& name) except +
        string property(const char* name) except +


cdef extern from "openvino/ov_backend.h" namespace "paddleinfer::openvino" nogil:
    cppclass OvInputPlace "paddleinfer::openvino::InputPlace":
        string name
        int index

    CppBackendFactory ov_backend(shared_ptr[OvLoadedModel], size_t instance, const vector[OvInputPlace]&) except +
