// Arrays on memory of the pool, handed to Python as DLPack capsules.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/vector.h>

#include <functional>
#include <memory>
#include <numeric>
#include <vector>

#include "pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace unrolled {
namespace {

// DLPack's DLManagedTensor. What frees it needs no interpreter, so a tensor may outlive Python.
struct Managed {
    nb::dlpack::dltensor array;
    void* context;
    void (*free)(Managed*);
};

struct PoolArray : Managed {
    std::vector<int64_t> shape;

    explicit PoolArray(const std::vector<int64_t>& sizes) : Managed{}, shape(sizes) {
        const int64_t count = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
        array.data = pool::take(static_cast<size_t>(count) * sizeof(float));
        array.device = {nb::device::cpu::value, 0};
        array.ndim = static_cast<int32_t>(shape.size());
        array.dtype = nb::dtype<float>();
        array.shape = shape.data();
        free = [](Managed* self) { delete static_cast<PoolArray*>(self); };
    }
    PoolArray(const PoolArray&) = delete;
    PoolArray& operator=(const PoolArray&) = delete;
    ~PoolArray() { pool::give_back(static_cast<float*>(array.data)); }
};

nb::object memory(const std::vector<int64_t>& shape) {
    constexpr const char* unclaimed = "dltensor";
    auto array = std::make_unique<PoolArray>(shape);
    PyObject* capsule = PyCapsule_New(static_cast<Managed*>(array.get()), unclaimed, [](PyObject* self) {
        if (!PyCapsule_IsValid(self, unclaimed)) return;  // whoever renamed it frees the array
        auto* left = static_cast<Managed*>(PyCapsule_GetPointer(self, unclaimed));
        left->free(left);
    });
    if (!capsule) throw nb::python_error();
    array.release();
    return nb::steal(capsule);
}

}  // namespace

void bind_pool(nb::module_& m) {
    m.def("memory", &memory, "shape"_a, "Uninitialised float32 memory of the pool, as a DLPack capsule.");
    m.def("release_memory", &pool::release, "Give the pool's free memory back to the system.");
    m.def("held_memory", &pool::held, "Bytes that the pool holds, in use and free.");
}

}  // namespace unrolled
