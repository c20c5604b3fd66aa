// The Python module; this file and bind_pool.cpp are all that knows Python. Arrays come in as NumPy or any other CPU buffer (DLPack), float32 and
// C-contiguous; shapes are checked here once; the GIL is released while a kernel runs.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdlib>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "stack.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace unrolled {
void bind_pool(nb::module_& m);
}

namespace {

template <class T, int Rank>
using Array = nb::ndarray<T, nb::ndim<Rank>, nb::c_contig, nb::device::cpu>;
template <int Rank>
using In = Array<const float, Rank>;
template <int Rank>
using Out = Array<float, Rank>;
using Lengths = std::optional<Array<const int64_t, 1>>;
using Resets = std::optional<Array<const bool, 2>>;

constexpr int64_t any = -1;

std::string shape_text(const std::vector<int64_t>& shape) {
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

// How the steps are taken; `h`, or its gradient, says T, B and H.
template <class Sequence>
unrolled::Steps make_steps(const Sequence& h, const Lengths& lengths, const Resets& resets, bool reverse) {
    const int64_t T = h.shape(0), B = h.shape(1), H = h.shape(2);
    if (lengths) {
        expect("lengths", *lengths, {B});
        for (int64_t b = 0; b < B; ++b)
            if (lengths->data()[b] < 0 || lengths->data()[b] > T)
                throw nb::value_error(("lengths[" + std::to_string(b) + "] is " +
                                       std::to_string(lengths->data()[b]) + ", expected 0 to " +
                                       std::to_string(T)).c_str());
    }
    if (resets) expect("resets", *resets, {T, B});
    return {T, B, H, data_or_null(lengths),
            resets ? reinterpret_cast<const uint8_t*>(resets->data()) : nullptr, reverse};
}

// Returns D, which weight_ih says.
int64_t expect_input(const unrolled::Steps& s, int64_t gates, const In<3>& x, const MaybeIn<2>& weight_ih) {
    const int64_t rows = gates * s.H, D = weight_ih ? static_cast<int64_t>(weight_ih->shape(1)) : rows;
    if (weight_ih) expect("weight_ih", *weight_ih, {rows, D});
    expect("x", x, {s.T, s.B, D});
    return D;
}

void expect_bias(const char* name, const MaybeIn<1>& bias, const MaybeIn<2>& weight_ih, int64_t rows) {
    if (!bias) return;
    if (!weight_ih) throw nb::value_error((std::string(name) + ": expected only together with weight_ih").c_str());
    expect(name, *bias, {rows});
}

int threads_for(const unrolled::Steps& s, int64_t gates, int64_t D) {
    return unrolled::threads_for(static_cast<double>(s.T) * s.B * gates * s.H * (s.H + D));
}

void lstm_forward(In<3> x, MaybeIn<2> weight_ih, MaybeIn<1> bias, In<2> weight_hh, In<2> h0, In<2> c0,
                  Lengths lengths, Resets resets, bool reverse, Out<3> h, Out<3> c, MaybeOut<3> gates) {
    const auto s = make_steps(h, lengths, resets, reverse);
    const int64_t D = expect_input(s, 4, x, weight_ih);
    expect_bias("bias", bias, weight_ih, 4 * s.H);
    expect("weight_hh", weight_hh, {4 * s.H, s.H});
    expect("h0", h0, {s.B, s.H});
    expect("c0", c0, {s.B, s.H});
    expect("c", c, {gates ? s.T : 1, s.B, s.H});
    if (gates) expect("gates", *gates, {s.T, s.B, 4 * s.H});
    nb::gil_scoped_release release;
    unrolled::kernels().lstm_forward(
        s, {x.data(), weight_hh.data(), h0.data(), c0.data(), h.data(), c.data(), data_or_null(gates),
            gates.has_value(), data_or_null(weight_ih), data_or_null(bias), D}, threads_for(s, 4, D));
}

unrolled::Gradients gradients(const unrolled::Steps& s, int64_t gates, int64_t D, const MaybeIn<2>& weight_ih,
                              const MaybeOut<3>& grad_x, const MaybeOut<2>& grad_weight_ih,
                              const Out<2>& grad_weight_hh, const MaybeOut<1>& grad_bias, const Out<2>& grad_h0) {
    if (grad_x) expect("grad_x", *grad_x, {s.T, s.B, D});
    if (weight_ih.has_value() != grad_weight_ih.has_value())
        throw nb::value_error("grad_weight_ih: expected where weight_ih is given, and only there");
    if (grad_weight_ih) expect("grad_weight_ih", *grad_weight_ih, {gates * s.H, D});
    expect("grad_weight_hh", grad_weight_hh, {gates * s.H, s.H});
    if (grad_bias) expect("grad_bias", *grad_bias, {gates * s.H});
    expect("grad_h0", grad_h0, {s.B, s.H});
    return {data_or_null(grad_x), data_or_null(grad_weight_ih), grad_weight_hh.data(), data_or_null(grad_bias),
            grad_h0.data()};
}

void lstm_backward(In<3> grad_h, MaybeIn<3> grad_c, In<3> x, MaybeIn<2> weight_ih, In<2> weight_hh, In<2> h0,
                   In<2> c0, Lengths lengths, Resets resets, bool reverse, In<3> h, In<3> c, In<3> gates,
                   MaybeOut<3> grad_x, MaybeOut<2> grad_weight_ih, MaybeOut<1> grad_bias, Out<2> grad_weight_hh,
                   Out<2> grad_h0, Out<2> grad_c0) {
    const auto s = make_steps(grad_h, lengths, resets, reverse);
    const int64_t D = expect_input(s, 4, x, weight_ih);
    if (grad_c) expect("grad_c", *grad_c, {s.T, s.B, s.H});
    expect("weight_hh", weight_hh, {4 * s.H, s.H});
    expect("h0", h0, {s.B, s.H});
    expect("c0", c0, {s.B, s.H});
    expect("h", h, {s.T, s.B, s.H});
    expect("c", c, {s.T, s.B, s.H});
    expect("gates", gates, {s.T, s.B, 4 * s.H});
    expect("grad_c0", grad_c0, {s.B, s.H});
    const auto grad = gradients(s, 4, D, weight_ih, grad_x, grad_weight_ih, grad_weight_hh, grad_bias, grad_h0);
    nb::gil_scoped_release release;
    unrolled::kernels().lstm_backward(
        s, {grad_h.data(), data_or_null(grad_c), x.data(), data_or_null(weight_ih), weight_hh.data(), h0.data(),
            c0.data(), h.data(), c.data(), gates.data(), D, grad, grad_c0.data()}, threads_for(s, 4, D));
}

void gru_forward(In<3> x, MaybeIn<2> weight_ih, MaybeIn<1> bias, In<2> weight_hh, In<1> bias_hn, In<2> h0,
                 Lengths lengths, Resets resets, bool reverse, Out<3> h, MaybeOut<3> gates) {
    const auto s = make_steps(h, lengths, resets, reverse);
    const int64_t D = expect_input(s, 3, x, weight_ih);
    expect_bias("bias", bias, weight_ih, 3 * s.H);
    expect("weight_hh", weight_hh, {3 * s.H, s.H});
    expect("bias_hn", bias_hn, {s.H});
    expect("h0", h0, {s.B, s.H});
    if (gates) expect("gates", *gates, {s.T, s.B, 4 * s.H});
    nb::gil_scoped_release release;
    unrolled::kernels().gru_forward(
        s, {x.data(), weight_hh.data(), bias_hn.data(), h0.data(), h.data(), data_or_null(gates),
            data_or_null(weight_ih), data_or_null(bias), D}, threads_for(s, 3, D));
}

void gru_backward(In<3> grad_h, In<3> x, MaybeIn<2> weight_ih, In<2> weight_hh, In<2> h0, Lengths lengths,
                  Resets resets, bool reverse, In<3> h, In<3> gates, MaybeOut<3> grad_x,
                  MaybeOut<2> grad_weight_ih, MaybeOut<1> grad_bias, Out<2> grad_weight_hh, Out<1> grad_bias_hn,
                  Out<2> grad_h0) {
    const auto s = make_steps(grad_h, lengths, resets, reverse);
    const int64_t D = expect_input(s, 3, x, weight_ih);
    expect("weight_hh", weight_hh, {3 * s.H, s.H});
    expect("h0", h0, {s.B, s.H});
    expect("h", h, {s.T, s.B, s.H});
    expect("gates", gates, {s.T, s.B, 4 * s.H});
    expect("grad_bias_hn", grad_bias_hn, {s.H});
    const auto grad = gradients(s, 3, D, weight_ih, grad_x, grad_weight_ih, grad_weight_hh, grad_bias, grad_h0);
    nb::gil_scoped_release release;
    unrolled::kernels().gru_backward(
        s, {grad_h.data(), x.data(), data_or_null(weight_ih), weight_hh.data(), h0.data(), h.data(), gates.data(), D,
            grad, grad_bias_hn.data()}, threads_for(s, 3, D));
}

void rnn_forward(In<3> x, MaybeIn<2> weight_ih, MaybeIn<1> bias, In<2> weight_hh, In<2> h0, Lengths lengths,
                 Resets resets, bool reverse, bool relu, Out<3> h) {
    const auto s = make_steps(h, lengths, resets, reverse);
    const int64_t D = expect_input(s, 1, x, weight_ih);
    expect_bias("bias", bias, weight_ih, s.H);
    expect("weight_hh", weight_hh, {s.H, s.H});
    expect("h0", h0, {s.B, s.H});
    nb::gil_scoped_release release;
    unrolled::kernels().rnn_forward(s, {x.data(), weight_hh.data(), h0.data(), h.data(), relu,
                                        data_or_null(weight_ih), data_or_null(bias), D}, threads_for(s, 1, D));
}

void rnn_backward(In<3> grad_h, In<3> x, MaybeIn<2> weight_ih, In<2> weight_hh, In<2> h0, Lengths lengths,
                  Resets resets, bool reverse, bool relu, In<3> h, MaybeOut<3> grad_x, MaybeOut<2> grad_weight_ih,
                  MaybeOut<1> grad_bias, Out<2> grad_weight_hh, Out<2> grad_h0) {
    const auto s = make_steps(grad_h, lengths, resets, reverse);
    const int64_t D = expect_input(s, 1, x, weight_ih);
    expect("weight_hh", weight_hh, {s.H, s.H});
    expect("h0", h0, {s.B, s.H});
    expect("h", h, {s.T, s.B, s.H});
    const auto grad = gradients(s, 1, D, weight_ih, grad_x, grad_weight_ih, grad_weight_hh, grad_bias, grad_h0);
    nb::gil_scoped_release release;
    unrolled::kernels().rnn_backward(s, {grad_h.data(), x.data(), data_or_null(weight_ih), weight_hh.data(),
                                         h0.data(), h.data(), D, grad, relu}, threads_for(s, 1, D));
}

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

constexpr std::pair<const char*, unrolled::Cell> cells[] = {{"lstm", unrolled::Cell::lstm},
                                                             {"gru", unrolled::Cell::gru},
                                                             {"rnn_tanh", unrolled::Cell::rnn_tanh},
                                                             {"rnn_relu", unrolled::Cell::rnn_relu}};

unrolled::Cell cell_named(const std::string& name) {
    for (const auto& [known, cell] : cells)
        if (name == known) return cell;
    throw nb::value_error(("cell '" + name + "': expected lstm, gru, rnn_tanh or rnn_relu").c_str());
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

void add_layer(unrolled::Stack& stack, In<2> weight_ih, In<2> weight_hh, std::optional<In<1>> bias_ih,
               std::optional<In<1>> bias_hh) {
    const int64_t rows = unrolled::gates_of(stack.cell) * stack.H;
    expect("weight_ih", weight_ih, {rows, stack.layers() ? stack.H : stack.D});
    expect("weight_hh", weight_hh, {rows, stack.H});
    if (bias_ih) expect("bias_ih", *bias_ih, {rows});
    if (bias_hh) expect("bias_hh", *bias_hh, {rows});
    stack.add_layer(weight_ih.data(), weight_hh.data(), data_or_null(bias_ih), data_or_null(bias_hh));
}

// A NumPy array's memory, taken through the buffer protocol: the way with the least overhead, for calls that are
// over in a microsecond. Refuses what is not float32, C-contiguous and of the expected shape.
class Floats {
  public:
    Floats(const char* name, nb::handle array, std::initializer_list<int64_t> shape, bool written) {
        const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (written ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(array.ptr(), &view_, flags)) {
            PyErr_Clear();
            throw nb::type_error((std::string(name) + ": expected a C-contiguous" + (written ? " writable" : "") +
                                  " float32 array").c_str());
        }
        const auto fits = [](int64_t expected, int64_t found) { return expected == any || expected == found; };
        const std::string_view format(view_.format);
        if (format == "f" && std::equal(shape.begin(), shape.end(), view_.shape, view_.shape + view_.ndim, fits)) return;
        const std::vector<int64_t> found(view_.shape, view_.shape + view_.ndim);
        std::vector<int64_t> expected(shape);
        if (found.size() == expected.size())
            for (size_t i = 0; i < found.size(); ++i)
                if (expected[i] == any) expected[i] = found[i];
        const std::string is_float = std::string(name) + ": expected float32, got an array of format " + std::string(format);
        PyBuffer_Release(&view_);
        if (format != "f") throw nb::type_error(is_float.c_str());
        throw nb::value_error((std::string(name) + ": expected shape " + shape_text(expected) + ", got " +
                               shape_text(found)).c_str());
    }
    Floats(const Floats&) = delete;
    Floats& operator=(const Floats&) = delete;
    ~Floats() { PyBuffer_Release(&view_); }
    float* data() const { return static_cast<float*>(view_.buf); }
    int64_t size(int dimension) const { return view_.shape[dimension]; }

  private:
    Py_buffer view_;
};

// Runs without the lock of the interpreter if it takes long enough for others to want it: giving it away and
// fetching it again costs a tenth of a microsecond, and more where they do.
template <class Run>
void run_unlocked(double bytes_read, Run run) {
    constexpr double worth_it = 1 << 18;
    std::optional<nb::gil_scoped_release> release;
    if (bytes_read >= worth_it) release.emplace();
    run();
}

void run_from(const unrolled::Stack& stack, const Floats& x, const Floats& y, int64_t T, int64_t B, nb::handle h,
              nb::handle c) {
    if (!stack.layers()) throw nb::value_error("the stack has no layers");
    const Floats state_h("h", h, {stack.layers(), B, stack.H}, true);
    std::optional<Floats> state_c;
    const bool has_c = stack.cell == unrolled::Cell::lstm;
    if (has_c && c.is_none()) throw nb::value_error("c: an LSTM needs its cell state");
    if (!has_c && !c.is_none()) throw nb::value_error("c: only an LSTM has a cell state, expected None");
    if (has_c)
        state_c.emplace("c", c, std::initializer_list<int64_t>{stack.layers(), B, stack.H}, true);
    run_unlocked(static_cast<double>(stack.bytes()) * T * B, [&] {
        stack.run(x.data(), y.data(), state_h.data(), state_c ? state_c->data() : nullptr, T, B);
    });
}

void run_stack(const unrolled::Stack& stack, nb::handle x, nb::handle y, nb::handle h, nb::handle c) {
    const Floats inputs("x", x, {any, any, stack.D}, false);
    const int64_t T = inputs.size(0), B = inputs.size(1);
    run_from(stack, inputs, Floats("y", y, {T, B, stack.H}, true), T, B, h, c);
}

void step_stack(const unrolled::Stack& stack, nb::handle x, nb::handle y, nb::handle h, nb::handle c) {
    const Floats inputs("x", x, {any, stack.D}, false);
    const int64_t B = inputs.size(0);
    run_from(stack, inputs, Floats("y", y, {B, stack.H}, true), 1, B, h, c);
}

void run_linear(const unrolled::Linear& linear, nb::handle x, nb::handle y) {
    const Floats inputs("x", x, {any, linear.K}, false);
    const int64_t M = inputs.size(0);
    const Floats outputs("y", y, {M, linear.N}, true);
    run_unlocked(static_cast<double>(linear.N) * linear.K * M * sizeof(float),
                 [&] { linear.run(inputs.data(), outputs.data(), M); });
}

}  // namespace

NB_MODULE(_engine, m) {
    m.doc() = "The compiled recurrent engine; csrc/unrolled.h says what each argument is.";
    if (const char* wanted = std::getenv("UNROLLED_ISA"); wanted && *wanted) use_isa(wanted);

    const auto x = "x"_a.noconvert();
    const auto w_ih = "weight_ih"_a.noconvert().none();
    const auto bias = "bias"_a.noconvert().none();
    const auto w_hh = "weight_hh"_a.noconvert();
    const auto h0 = "h0"_a.noconvert(), c0 = "c0"_a.noconvert();
    const auto lengths = "lengths"_a.noconvert().none();
    const auto resets = "resets"_a.noconvert().none();
    const auto h = "h"_a.noconvert(), c = "c"_a.noconvert();
    const auto grad_h = "grad_h"_a.noconvert();
    const auto grad_x = "grad_x"_a.noconvert().none();
    const auto grad_w_ih = "grad_weight_ih"_a.noconvert().none();
    const auto grad_bias = "grad_bias"_a.noconvert().none();
    const auto grad_w_hh = "grad_weight_hh"_a.noconvert();
    const auto grad_h0 = "grad_h0"_a.noconvert();
    m.def("lstm_forward", &lstm_forward, x, w_ih, bias, w_hh, h0, c0, lengths, resets, "reverse"_a, h, c,
          "gates"_a.noconvert().none());
    m.def("lstm_backward", &lstm_backward, grad_h, "grad_c"_a.noconvert().none(), x, w_ih, w_hh, h0, c0, lengths,
          resets, "reverse"_a, h, c, "gates"_a.noconvert(), grad_x, grad_w_ih, grad_bias, grad_w_hh, grad_h0,
          "grad_c0"_a.noconvert());
    m.def("gru_forward", &gru_forward, x, w_ih, bias, w_hh, "bias_hn"_a.noconvert(), h0, lengths, resets,
          "reverse"_a, h, "gates"_a.noconvert().none());
    m.def("gru_backward", &gru_backward, grad_h, x, w_ih, w_hh, h0, lengths, resets, "reverse"_a, h,
          "gates"_a.noconvert(), grad_x, grad_w_ih, grad_bias, grad_w_hh, "grad_bias_hn"_a.noconvert(), grad_h0);
    m.def("rnn_forward", &rnn_forward, x, w_ih, bias, w_hh, h0, lengths, resets, "reverse"_a, "relu"_a, h);
    m.def("rnn_backward", &rnn_backward, grad_h, x, w_ih, w_hh, h0, lengths, resets, "reverse"_a, "relu"_a, h,
          grad_x, grad_w_ih, grad_bias, grad_w_hh, grad_h0);
    m.def("activation", &activation, "name"_a, "x"_a.noconvert(), "y"_a.noconvert());

    m.def("isa", [] { return std::string(unrolled::kernels().isa); }, "The instruction set in use.");
    m.def("isas", [] {
        std::vector<std::string> names;
        for (auto at = unrolled::available_kernels(); *at; ++at) names.emplace_back((*at)->isa);
        return names;
    }, "The instruction sets this machine can run, best first.");
    m.def("use_isa", &use_isa, "isa"_a);
    m.def("keep_freed_memory", &unrolled::keep_freed_memory,
          "Keep freed memory in the process (glibc): for programs that train.");

    unrolled::bind_pool(m);

    nb::class_<unrolled::Linear>(m, "Linear")
        .def("__init__", [](unrolled::Linear* self, In<2> weight, std::optional<In<1>> bias, const std::string& weights) {
            const int64_t N = weight.shape(0), K = weight.shape(1);
            if (bias) expect("bias", *bias, {N});
            new (self) unrolled::Linear(weight.data(), data_or_null(bias), N, K, weights_named(weights));
        }, "weight"_a.noconvert(), "bias"_a.noconvert().none(), "weights"_a = "float32")
        .def("run", &run_linear, "x"_a, "y"_a);
    nb::class_<unrolled::Stack>(m, "Stack")
        .def("__init__", [](unrolled::Stack* self, const std::string& cell, int64_t D, int64_t H, const std::string& weights) {
            new (self) unrolled::Stack(cell_named(cell), D, H, weights_named(weights));
        }, "cell"_a, "input_size"_a, "hidden_size"_a, "weights"_a = "float32")
        .def("add_layer", &add_layer, "weight_ih"_a.noconvert(), "weight_hh"_a.noconvert(),
             "bias_ih"_a.noconvert().none(), "bias_hh"_a.noconvert().none())
        .def("run", &run_stack, "x"_a, "y"_a, "h"_a, "c"_a.none())
        .def("step", &step_stack, "x"_a, "y"_a, "h"_a, "c"_a.none())
        .def_prop_ro("cell", [](const unrolled::Stack& stack) { return name_of(stack.cell); })
        .def_ro("input_size", &unrolled::Stack::D)
        .def_ro("hidden_size", &unrolled::Stack::H)
        .def_prop_ro("layers", &unrolled::Stack::layers)
        .def_prop_ro("bytes", &unrolled::Stack::bytes)
        .def_prop_ro("threads", [](const unrolled::Stack& stack) { return stack.threads(1, 1); });
}
