// Arrays as Python hands them over: NumPy's or any other CPU buffer's (DLPack), float32 and C-contiguous, their
// shapes checked here once.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cxxabi.h>
#include <unistd.h>

#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "unrolled.h"

namespace nb = nanobind;
using namespace nb::literals;

template <class T, int Rank>
using Array = nb::ndarray<T, nb::ndim<Rank>, nb::c_contig, nb::device::cpu>;
template <int Rank>
using In = Array<const float, Rank>;
template <int Rank>
using Out = Array<float, Rank>;
using Lengths = std::optional<Array<const int64_t, 1>>;
using Resets = std::optional<Array<const bool, 2>>;
using Symbols = std::optional<Array<const int64_t, 2>>;

constexpr int64_t any = -1;

inline std::string shape_text(const std::vector<int64_t>& shape) {
    std::string text = "[";
    for (size_t i = 0; i < shape.size(); ++i) 
        text += (i ? ", " : "") + (shape[i] == any ? "any" : std::to_string(shape[i]));
    return text + "]";
}

template <class A>
void expect(const char* name, const A& array, const std::vector<int64_t>& shape) {
    std::vector<int64_t> found(array.ndim());
    for (size_t i = 0; i < array.ndim(); ++i) found[i] = static_cast<int64_t>(array.shape(i));
    if (found != shape)
        throw nb::value_error((std::string(name) + ": expected shape " + shape_text(shape) + ", got " +
                               shape_text(found)).c_str());
}

template <class A>
auto* data_or_null(const std::optional<A>& array) {
    return array ? array->data() : nullptr;
}

template <int Rank>
using MaybeIn = std::optional<In<Rank>>;
template <int Rank>
using MaybeOut = std::optional<Out<Rank>>;
using AnyRank = nb::ndarray<const float, nb::c_contig, nb::device::cpu>;
using AnyRankOut = nb::ndarray<float, nb::c_contig, nb::device::cpu>;

// The layer normalisation of an LSTM of G gates and H units: all of it or none, gain_ih where there is a weight_ih.
inline unrolled::LayerNorm norm_of(int64_t G, int64_t H, bool has_weight_ih, const MaybeIn<1>& gain_ih,
                                   const MaybeIn<1>& gain_hh, const MaybeIn<1>& gain_c, const MaybeIn<1>& bias_c) {
    const bool normalised = gain_hh.has_value();
    if (gain_ih.has_value() != (normalised && has_weight_ih))
        throw nb::value_error("gain_ih: expected where gain_hh and weight_ih are given, and only there");
    if (gain_c.has_value() != normalised || bias_c.has_value() != normalised)
        throw nb::value_error("gain_c and bias_c: expected where gain_hh is given, and only there");
    if (gain_ih) expect("gain_ih", *gain_ih, {G * H});
    if (gain_hh) expect("gain_hh", *gain_hh, {G * H});
    if (gain_c) expect("gain_c", *gain_c, {H});
    if (bias_c) expect("bias_c", *bias_c, {H});
    return {data_or_null(gain_ih), data_or_null(gain_hh), data_or_null(gain_c), data_or_null(bias_c)};
}

// Takes the interpreter's lock. Where that has ended meanwhile, it ends the thread that asks for the lock, a daemon's, in glibc
// by unwinding its stack, which C++ may not let through: such a thread stays here for the moment that is left.
inline void lock(PyThreadState* state) {
#if defined(__GLIBCXX__)
    try {
        PyEval_RestoreThread(state);
    } catch (abi::__forced_unwind&) {
        for (;;) pause();
    }
#else
    PyEval_RestoreThread(state);
#endif
}

// Runs without it.
template <class Run>
void unlocked(const Run& run) {
    PyThreadState* const state = PyEval_SaveThread();
    try {
        run();
    } catch (const std::exception&) {
        lock(state);
        throw;
    }
    lock(state);
}

// The parts of the module.
void bind_sequences(nb::module_& m);
void bind_stack(nb::module_& m);
