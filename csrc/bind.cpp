// The Python module. This file, its parts, bind_*.cpp, and arrays.h are all that knows Python.
#include <cstdlib>

#include "arrays.h"
#include "unrolled.h"

namespace unrolled {
void bind_pool(nb::module_& m);
}

namespace {

void activation(const std::string& name, In<1> x, Out<1> y) {
    const int64_t n = x.shape(0);
    expect("y", y, {n});
    const auto& k = unrolled::kernels();
    if (name == "exp") k.exp(x.data(), y.data(), n);
    else if (name == "tanh") k.tanh(x.data(), y.data(), n);
    else if (name == "sigmoid") k.sigmoid(x.data(), y.data(), n);
    else throw nb::value_error("activation: expected exp, tanh or sigmoid");
}

void use_isa(const std::string& isa) {
    if (unrolled::use_isa(isa.c_str())) return;
    std::string known;
    for (auto at = unrolled::available_kernels(); *at; ++at) known += (known.empty() ? "" : ", ") + std::string((*at)->isa);
    throw nb::value_error(("instruction set '" + isa + "' is not one this machine runs: " + known).c_str());
}

}  // namespace

NB_MODULE(_engine, m) {
    nb::set_leak_warnings(false);  // a daemon thread holds its layers to the end
    m.doc() = "The compiled recurrent engine; csrc/unrolled.h says what each argument is.";
    if (const char* wanted = std::getenv("UNROLLED_ISA"); wanted && *wanted) use_isa(wanted);

    bind_sequences(m);
    bind_stack(m);
    unrolled::bind_pool(m);
    m.def("activation", &activation, "name"_a, "x"_a.noconvert(), "y"_a.noconvert());

    m.def("isa", [] { return std::string(unrolled::kernels().isa); }, "The instruction set in use.");
    m.def("isas", [] {
        std::vector<std::string> names;
        for (auto at = unrolled::available_kernels(); *at; ++at) names.emplace_back((*at)->isa);
        return names;
    }, "The instruction sets this machine can run, best first.");
    m.def("multiplies_bfloat16", [] { return unrolled::kernels().multiplies_bfloat16; }, "Whether it has products of bfloat16 for sequences.");
    m.def("use_isa", &use_isa, "isa"_a);
    m.def("keep_freed_memory", &unrolled::keep_freed_memory,
          "Keep freed memory in the process (glibc): for programs that train.");
}
