// Packed layers: steppers and dense layers, whose calls may be over in a microsecond.
#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#include <numpy/arrayobject.h>

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

#include "arrays.h"
#include "stack.h"

namespace {

constexpr std::pair<const char*, unrolled::Cell> cells[] = {{"lstm", unrolled::Cell::lstm},
                                                             {"lstm_coupled", unrolled::Cell::lstm_coupled},
                                                             {"gru", unrolled::Cell::gru},
                                                             {"rnn_tanh", unrolled::Cell::rnn_tanh},
                                                             {"rnn_relu", unrolled::Cell::rnn_relu}};

unrolled::Cell cell_named(const std::string& name) {
    for (const auto& [known, cell] : cells)
        if (name == known) return cell;
    throw nb::value_error(("cell '" + name + "': expected lstm, lstm_coupled, gru, rnn_tanh or rnn_relu").c_str());
}

std::string name_of(unrolled::Cell cell) {
    for (const auto& [name, known] : cells)
        if (cell == known) return name;
    throw nb::value_error("a cell without a name");
}

unrolled::Weights weights_named(const std::string& name) {
    if (name == "float32") return unrolled::Weights::float32;
    if (name == "bfloat16") return unrolled::Weights::bfloat16;
    if (name == "int8") return unrolled::Weights::int8;
    throw nb::value_error(("weights '" + name + "': expected float32, bfloat16 or int8").c_str());
}

void add_layer(unrolled::Stack& stack, In<2> weight_ih, In<2> weight_hh, MaybeIn<1> bias_ih, MaybeIn<1> bias_hh,
               MaybeIn<2> peephole, MaybeIn<1> zoneout_h, MaybeIn<1> zoneout_c, MaybeIn<2> weight_hr,
               MaybeIn<1> gain_ih, MaybeIn<1> gain_hh, MaybeIn<1> gain_c, MaybeIn<1> bias_c) {
    const bool lstm = is_lstm(stack.cell), rnn = gates_of(stack.cell) == 1;
    const int64_t H = stack.H, P = stack.P, gates = gates_of(stack.cell), D = stack.layers() ? P : stack.D;
    expect("weight_ih", weight_ih, {gates * H, D});
    expect("weight_hh", weight_hh, {gates * H, P});
    if (bias_ih) expect("bias_ih", *bias_ih, {gates * H});
    if (bias_hh) expect("bias_hh", *bias_hh, {gates * H});
    if (peephole && !lstm) throw nb::value_error("peephole: only an LSTM has peepholes, expected None");
    if (peephole) expect("peephole", *peephole, {gates - 1, H});
    if (zoneout_h && rnn) throw nb::value_error("zoneout_h: only an LSTM or a GRU has zoneout, expected None");
    if (zoneout_h) expect("zoneout_h", *zoneout_h, {P});
    if (zoneout_c && !lstm) throw nb::value_error("zoneout_c: only an LSTM has a cell state, expected None");
    if (zoneout_c) expect("zoneout_c", *zoneout_c, {H});
    if (weight_hr.has_value() != stack.projects_state)
        throw nb::value_error("weight_hr: expected where the stack has a proj_size, and only there");
    if (weight_hr) expect("weight_hr", *weight_hr, {P, H});
    if (gain_hh && !lstm) throw nb::value_error("gain_hh: only an LSTM has layer normalisation, expected None");
    const auto norm = norm_of(gates, H, true, gain_ih, gain_hh, gain_c, bias_c);
    stack.add_layer({D, H, P, weight_ih.data(), weight_hh.data(), data_or_null(bias_ih), data_or_null(bias_hh),
                     data_or_null(peephole), data_or_null(zoneout_h), data_or_null(zoneout_c),
                     data_or_null(weight_hr), norm});
}

struct Type {
    const char* name;
    std::string_view format;     // the buffer protocol's
    std::string_view unaligned;  // the same where numbers do not begin at multiples of their size
    int number;                  // NumPy's
};
constexpr Type float32{"float32", "f", "=f", NPY_FLOAT}, int64{"int64", "l", "=q", NPY_LONG};
enum Access {
    reading = PyBUF_C_CONTIGUOUS,
    writing = PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE,
    writing_rows = PyBUF_STRIDES | PyBUF_WRITABLE,
};

template <class Sizes>  // of NumPy's own integer, or of int64_t
bool fit(std::span<const int64_t> expected, const Sizes& found) {
    return std::ranges::equal(expected, found, [](int64_t one, int64_t other) { return one == any || one == other; });
}

// An array's memory. Refuses what is not of the expected type and shape, or does not lie as `access` wants it. An array of
// NumPy's says all that is asked in its own fields, for calls that are over in a microsecond; what else there may be is taken
// through the buffer protocol, which needs a tenth of one.
class Memory {
  public:
    Memory(const char* name, nb::handle array, Type type, std::span<const int64_t> shape, Access access) {
        if (access != writing_rows && look_at(array, type, shape, access)) return;
        if (PyObject_GetBuffer(array.ptr(), &view_, PyBUF_FORMAT | access)) {
            PyErr_Clear();
            throw nb::type_error((std::string(name) + ": expected a" + (access == writing_rows ? "" : " C-contiguous") +
                                  (access == reading ? " " : " writable ") + type.name + " array").c_str());
        }
        const std::string_view format(view_.format);
        const std::vector<int64_t> found(view_.shape, view_.shape + view_.ndim);
        if (format == type.format && fit(shape, found)) return;
        std::vector<int64_t> expected(shape.begin(), shape.end());
        if (found.size() == expected.size())
            for (size_t i = 0; i < found.size(); ++i)
                if (expected[i] == any) expected[i] = found[i];
        const bool other_type = format != type.format;
        const std::string message = std::string(name) + ": expected " + type.name + ", got an array " +
                                    (format == type.unaligned ? "that is not aligned" : std::string("of format ") + view_.format);
        PyBuffer_Release(&view_);
        if (other_type) throw nb::type_error(message.c_str());
        throw nb::value_error((std::string(name) + ": expected shape " + shape_text(expected) + ", got " +
                               shape_text(found)).c_str());
    }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    ~Memory() { PyBuffer_Release(&view_); }
    float* floats() const { return static_cast<float*>(view_.buf); }
    std::span<const int64_t> numbers() const {
        return {static_cast<const int64_t*>(view_.buf), static_cast<size_t>(view_.len) / sizeof(int64_t)};
    }
    int64_t size(int dimension) const { return view_.shape[dimension]; }
    bool overlap(const Memory& other) const {
        const auto begin = [](const Memory& one) { return static_cast<const char*>(one.view_.buf); };
        return begin(*this) < begin(other) + other.view_.len && begin(other) < begin(*this) + view_.len;
    }
    // Of a state [L, B, H], whose rows may be parts of something larger.
    unrolled::StateRows state(const char* name) const {
        const auto whole = [&](int dimension) { return size(dimension) < 2 || view_.strides[dimension] % sizeof(float) == 0; };
        if (!whole(0) || !whole(1) || (size(2) > 1 && view_.strides[2] != sizeof(float)))
            throw nb::type_error((std::string(name) + ": expected the units of a row next to each other").c_str());
        return {floats(), apart(0), apart(1)};
    }

  private:
    // Takes the memory of a plain array of NumPy's, which whoever called holds for as long as the call lasts.
    bool look_at(nb::handle object, Type type, std::span<const int64_t> shape, Access access) {
        if (!PyArray_Check(object.ptr())) return false;
        auto* const array = reinterpret_cast<PyArrayObject*>(object.ptr());
        const bool plain = access == writing ? PyArray_ISCARRAY(array) : PyArray_ISCARRAY_RO(array);
        if (!plain || PyArray_TYPE(array) != type.number) return false;
        if (!fit(shape, std::span(PyArray_DIMS(array), static_cast<size_t>(PyArray_NDIM(array))))) return false;
        view_ = {};  // of nobody
        view_.buf = PyArray_DATA(array);
        view_.len = PyArray_NBYTES(array);
        view_.shape = PyArray_DIMS(array);
        return true;
    }
    // How many floats on the next of this dimension begins.
    int64_t apart(int dimension) const {
        return size(dimension) > 1 ? view_.strides[dimension] / static_cast<int64_t>(sizeof(float)) : 0;
    }
    Py_buffer view_;
};

// Runs without the lock of the interpreter if it takes long enough for others to want it: giving it away and
// fetching it again costs up to half a microsecond, and more where they do.
template <class Run>
void run_unlocked(double bytes_read, Run run) {
    constexpr double worth_it = 1 << 20;
    if (bytes_read >= worth_it) unlocked(run);
    else run();
}

void expect_symbols(std::span<const int64_t> symbols, int64_t V) {
    for (const int64_t symbol : symbols)
        if (symbol < 0 || symbol >= V)
            throw nb::value_error(("x: expected symbols from 0 to " + std::to_string(V - 1) + ", got " +
                                   std::to_string(symbol)).c_str());
}

// Inputs of T steps of B rows, which may be `any`: [T, B, D], or symbols [T, B]; of one step, without T.
class Inputs {
  public:
    Inputs(const unrolled::Stack& stack, nb::handle x, std::span<const int64_t> steps)
        : memory_("x", x, stack.V ? int64 : float32, shape(stack, steps), reading), symbols_(stack.V) {}
    int64_t size(int dimension) const { return memory_.size(dimension); }
    bool overlap(const Memory& other) const { return memory_.overlap(other); }

    void run(const unrolled::Stack& stack, float* y, const unrolled::StateRows& h, const unrolled::StateRows& c, int64_t T,
             int64_t B) const {
        if (symbols_) expect_symbols(memory_.numbers(), stack.V);
        run_unlocked(static_cast<double>(stack.bytes()) * T * B, [&] {
            if (symbols_) stack.run(memory_.numbers().data(), y, h, c, T, B);
            else stack.run(memory_.floats(), y, h, c, T, B);
        });
    }

  private:
    std::span<const int64_t> shape(const unrolled::Stack& stack, std::span<const int64_t> steps) {
        std::copy(steps.begin(), steps.end(), shape_);
        shape_[steps.size()] = stack.D;
        return {shape_, steps.size() + !stack.V};
    }

    int64_t shape_[3];
    Memory memory_;
    bool symbols_;
};

// The state of a stack's layers: h [L, B, P] and, for an LSTM, c [L, B, H], both brought up to date in place. B may be `any`.
class State {
  public:
    State(const unrolled::Stack& stack, nb::handle h, nb::handle c, int64_t B) {
        if (!stack.layers()) throw nb::value_error("the stack has no layers");
        const bool has_c = is_lstm(stack.cell);
        if (has_c && c.is_none()) throw nb::value_error("c: an LSTM needs its cell state");
        if (!has_c && !c.is_none()) throw nb::value_error("c: only an LSTM has a cell state, expected None");
        const int64_t h_shape[] = {stack.layers(), B, stack.P};
        h_.emplace("h", h, float32, h_shape, writing_rows);
        const int64_t c_shape[] = {stack.layers(), h_->size(1), stack.H};
        if (has_c) c_.emplace("c", c, float32, c_shape, writing_rows);
        rows_h = h_->state("h");
        if (has_c) rows_c = c_->state("c");
    }
    int64_t rows() const { return h_->size(1); }

    unrolled::StateRows rows_h, rows_c{};

  private:
    std::optional<Memory> h_, c_;
};

// Steps of one state, which is looked at once: a call that is over in a microsecond has time for two arrays, not for four.
class Steps {
  public:
    Steps(const unrolled::Stack& stack, nb::handle h, nb::handle c)
        : stack_(stack), layers_(stack.layers()), state_(stack, h, c, any) {}

    // x [B, D], or symbols [B], -> out [B, P], a new array where it is None.
    nb::object step(nb::handle x, nb::object out) const {
        if (stack_.layers() != layers_) throw nb::value_error("the stack has other layers than when its state was given");
        const int64_t shape[] = {state_.rows(), stack_.P};
        const Inputs inputs(stack_, x, std::span(shape).first(1));
        if (out.is_none()) {
            const npy_intp sizes[] = {shape[0], shape[1]};
            out = nb::steal(PyArray_SimpleNew(2, sizes, float32.number));
            if (!out.is_valid()) throw nb::python_error();
        }
        const Memory outputs("out", out, float32, shape, writing);
        if (inputs.overlap(outputs)) throw nb::value_error("out: expected memory of its own, got that of x");
        inputs.run(stack_, outputs.floats(), state_.rows_h, state_.rows_c, 1, shape[0]);
        return out;
    }

  private:
    const unrolled::Stack& stack_;
    const int64_t layers_;
    const State state_;
};

void run_stack(const unrolled::Stack& stack, nb::handle x, nb::handle y, nb::handle h, nb::handle c) {
    const int64_t steps[] = {any, any};
    const Inputs inputs(stack, x, steps);
    const int64_t shape[] = {inputs.size(0), inputs.size(1), stack.P};
    const Memory outputs("y", y, float32, shape, writing);
    const State state(stack, h, c, shape[1]);
    inputs.run(stack, outputs.floats(), state.rows_h, state.rows_c, shape[0], shape[1]);
}

void run_linear(const unrolled::Linear& linear, nb::handle x, nb::handle y) {
    const int64_t inputs_shape[] = {any, linear.K};
    const Memory inputs("x", x, float32, inputs_shape, reading);
    const int64_t M = inputs.size(0), outputs_shape[] = {M, linear.N};
    const Memory outputs("y", y, float32, outputs_shape, writing);
    run_unlocked(static_cast<double>(linear.N) * linear.K * M * sizeof(float),
                 [&] { linear.run(inputs.floats(), outputs.floats(), M); });
}

}  // namespace

void bind_stack(nb::module_& m) {
    if (PyArray_ImportNumPyAPI() < 0) throw nb::python_error();
    nb::class_<unrolled::Linear>(m, "Linear")
        .def("__init__", [](unrolled::Linear* self, In<2> weight, std::optional<In<1>> bias, const std::string& weights) {
            const int64_t N = weight.shape(0), K = weight.shape(1);
            if (bias) expect("bias", *bias, {N});
            new (self) unrolled::Linear(weight.data(), data_or_null(bias), N, K, weights_named(weights));
        }, "weight"_a.noconvert(), "bias"_a.noconvert().none(), "weights"_a = "float32")
        .def("run", &run_linear, "x"_a, "y"_a);
    nb::class_<unrolled::Stack>(m, "Stack")
        .def("__init__", [](unrolled::Stack* self, const std::string& name, int64_t D, int64_t H, const std::string& weights,
                            MaybeIn<2> embedding, int64_t proj_size) {
            const unrolled::Cell cell = cell_named(name);
            if (proj_size && !is_lstm(cell)) throw nb::value_error("proj_size: only an LSTM has a projection, expected 0");
            const int64_t V = embedding ? embedding->shape(0) : 0;
            if (embedding) expect("embedding", *embedding, {V, D});
            if (embedding && !V) throw nb::value_error("embedding: expected one row or more, got none");
            new (self) unrolled::Stack(cell, D, H, proj_size, weights_named(weights), data_or_null(embedding), V);
        }, "cell"_a, "input_size"_a, "hidden_size"_a, "weights"_a = "float32", "embedding"_a.noconvert().none() = nb::none(),
           "proj_size"_a = 0)
        .def("add_layer", &add_layer, "weight_ih"_a.noconvert(), "weight_hh"_a.noconvert(),
             "bias_ih"_a.noconvert().none() = nb::none(), "bias_hh"_a.noconvert().none() = nb::none(),
             "peephole"_a.noconvert().none() = nb::none(), "zoneout_h"_a.noconvert().none() = nb::none(),
             "zoneout_c"_a.noconvert().none() = nb::none(), "weight_hr"_a.noconvert().none() = nb::none(),
             "gain_ih"_a.noconvert().none() = nb::none(), "gain_hh"_a.noconvert().none() = nb::none(),
             "gain_c"_a.noconvert().none() = nb::none(), "bias_c"_a.noconvert().none() = nb::none())
        .def("run", &run_stack, "x"_a, "y"_a, "h"_a, "c"_a.none())
        .def_prop_ro("cell", [](const unrolled::Stack& stack) { return name_of(stack.cell); })
        .def_ro("input_size", &unrolled::Stack::D)
        .def_ro("hidden_size", &unrolled::Stack::H)
        .def_ro("output_size", &unrolled::Stack::P)
        .def_prop_ro("layers", &unrolled::Stack::layers)
        .def_prop_ro("bytes", &unrolled::Stack::bytes)
        .def_prop_ro("threads", [](const unrolled::Stack& stack) { return stack.threads(1, 1); });
    nb::class_<Steps>(m, "Steps")
        .def(nb::init<const unrolled::Stack&, nb::handle, nb::handle>(), "stack"_a, "h"_a, "c"_a.none(), nb::keep_alive<1, 2>())
        .def("step", &Steps::step, "x"_a.none(), "out"_a.none() = nb::none());  // None is refused as all else that is no array
}
