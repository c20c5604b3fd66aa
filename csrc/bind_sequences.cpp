// The cells over whole sequences, forward and backward; the GIL is released while a kernel runs.
#include "arrays.h"
#include "unrolled.h"

namespace {

using MaybeFactors = std::optional<AnyRank>;

// How the steps are taken; `h`, or its gradient, says T, B and P, and weight_hr says H where that is another. A step that
// is taken reads a row of x.
template <class Sequence>
unrolled::Steps make_steps(const Sequence& h, const AnyRank& x, const Symbols& symbols, const Lengths& lengths,
                           const Resets& resets, bool reverse, bool bfloat16, const MaybeIn<2>& weight_hr = {}) {
    const int64_t T = h.shape(0), B = h.shape(1), P = h.shape(2);
    const int64_t H = weight_hr ? static_cast<int64_t>(weight_hr->shape(1)) : P;
    if (weight_hr) expect("weight_hr", *weight_hr, {P, H});
    if (T == 0 || P == 0 || H == 0)
        throw nb::value_error(("expected at least one step and one unit, got " + std::to_string(T) + " and " +
                               std::to_string(P < H ? P : H)).c_str());
    if (lengths) {
        expect("lengths", *lengths, {B});
        for (int64_t b = 0; b < B; ++b)
            if (lengths->data()[b] < 0 || lengths->data()[b] > T)
                throw nb::value_error(("lengths[" + std::to_string(b) + "] is " +
                                       std::to_string(lengths->data()[b]) + ", expected 0 to " +
                                       std::to_string(T)).c_str());
    }
    if (resets) expect("resets", *resets, {T, B});
    const int64_t V = symbols && x.ndim() > 0 ? static_cast<int64_t>(x.shape(0)) : T * B;
    static constexpr int64_t nothing = 0;  // a tensor of no rows has no memory, and is there all the same
    const int64_t* rows_of_x = symbols && !symbols->data() ? &nothing : data_or_null(symbols);
    const unrolled::Steps s{T, B, H, P, data_or_null(lengths),
                            resets ? reinterpret_cast<const uint8_t*>(resets->data()) : nullptr, reverse, rows_of_x, V,
                            bfloat16 && unrolled::kernels().multiplies_bfloat16};
    if (symbols) {
        expect("symbols", *symbols, {T, B});
        for (int64_t t = 0; t < T; ++t)
            for (int64_t b = 0; b < B; ++b)
                if (t < s.length(b) && (s.input(t, b) < 0 || s.input(t, b) >= V))
                    throw nb::index_error(("symbols[" + std::to_string(t) + ", " + std::to_string(b) + "] is " +
                                           std::to_string(s.input(t, b)) + ", expected 0 to " + std::to_string(V - 1)).c_str());
    }
    return s;
}

// The shape of x, or of its gradient.
std::vector<int64_t> shape_of_x(const unrolled::Steps& s, int64_t D) {
    return s.symbols ? std::vector{s.V, D} : std::vector{s.T, s.B, D};
}

// Returns D, which weight_ih says.
int64_t expect_input(const unrolled::Steps& s, int64_t gates, const AnyRank& x, const MaybeIn<2>& weight_ih) {
    const int64_t rows = gates * s.H, D = weight_ih ? static_cast<int64_t>(weight_ih->shape(1)) : rows;
    if (weight_ih) expect("weight_ih", *weight_ih, {rows, D});
    if (weight_ih && D == 0) throw nb::value_error("weight_ih has no column, expected at least one");
    expect("x", x, shape_of_x(s, D));
    return D;
}

void expect_bias(const char* name, const MaybeIn<1>& bias, const MaybeIn<2>& weight_ih, int64_t rows) {
    if (!bias) return;
    if (!weight_ih) throw nb::value_error((std::string(name) + ": expected only together with weight_ih").c_str());
    expect(name, *bias, {rows});
}

// Both are there or neither: where they are added, they have one gradient.
void expect_biases(const MaybeIn<1>& bias_ih, const MaybeIn<1>& bias_hh, const MaybeIn<2>& weight_ih, int64_t rows) {
    expect_bias("bias_ih", bias_ih, weight_ih, rows);
    expect_bias("bias_hh", bias_hh, weight_ih, rows);
    if (bias_ih.has_value() != bias_hh.has_value())
        throw nb::value_error("bias_hh: expected where bias_ih is given, and only there");
}

int threads_for(const unrolled::Steps& s, int64_t gates, int64_t D) {
    const int64_t of_projection = s.P == s.H ? 0 : s.P;
    return unrolled::threads_for(static_cast<double>(s.T) * s.B * s.H * (gates * (s.P + D) + of_projection));
}

// Factors of units: [width], or [T, B, width].
unrolled::Factors factors(const char* name, const std::optional<AnyRank>& array, const unrolled::Steps& s,
                          int64_t width) {
    if (!array) return {};
    const bool same = array->ndim() == 1;
    expect(name, *array, same ? std::vector{width} : std::vector{s.T, s.B, width});
    return {array->data(), same ? 0 : width};
}

// 3 where the forget gate is coupled, which the rows of weight_hh say, else 4.
int64_t gates_of(const unrolled::Steps& s, const In<2>& weight_hh) {
    return static_cast<int64_t>(weight_hh.shape(0)) == 3 * s.H ? 3 : 4;
}

unrolled::LstmVariant variant_of(const unrolled::Steps& s, int64_t gates, const MaybeIn<2>& weight_hr,
                                 const MaybeIn<2>& peephole, const unrolled::LayerNorm& norm, const MaybeFactors& dropout,
                                 const MaybeFactors& zoneout_h, const MaybeFactors& zoneout_c) {
    if (peephole) expect("peephole", *peephole, {gates - 1, s.H});
    return {gates == 3, data_or_null(weight_hr), data_or_null(peephole), factors("dropout", dropout, s, s.H),
            factors("zoneout_h", zoneout_h, s, s.P), factors("zoneout_c", zoneout_c, s, s.H), norm};
}

// The gradients of what may be there or not: each is there where that is.
template <class Given, class Gradient>
void expect_gradient(const char* name, const Given& given, const Gradient& gradient) {
    if (given.has_value() != gradient.has_value())
        throw nb::value_error((std::string("grad_") + name + ": expected where " + name + " is given, and only there").c_str());
    if (!gradient) return;
    std::vector<int64_t> shape;
    for (size_t i = 0; i < given->ndim(); ++i) shape.push_back(static_cast<int64_t>(given->shape(i)));
    expect((std::string("grad_") + name).c_str(), *gradient, shape);
}

void lstm_forward(AnyRank x, Symbols symbols, MaybeIn<2> weight_ih, MaybeIn<1> bias_ih, In<2> weight_hh,
                  MaybeIn<1> bias_hh, MaybeIn<2> weight_hr, MaybeIn<2> peephole, MaybeIn<1> gain_ih, MaybeIn<1> gain_hh,
                  MaybeIn<1> gain_c, MaybeIn<1> bias_c, MaybeIn<2> h0, MaybeIn<2> c0, Lengths lengths, Resets resets, bool reverse,
                  bool bfloat16, MaybeFactors dropout, MaybeFactors zoneout_h, MaybeFactors zoneout_c, Out<3> h, Out<3> c,
                  MaybeOut<3> gates, MaybeOut<3> h_n, MaybeOut<3> c_n) {
    const auto s = make_steps(h, x, symbols, lengths, resets, reverse, bfloat16, weight_hr);
    const int64_t G = gates_of(s, weight_hh), D = expect_input(s, G, x, weight_ih);
    expect_biases(bias_ih, bias_hh, weight_ih, G * s.H);
    expect("weight_hh", weight_hh, {G * s.H, s.P});
    if (h0) expect("h0", *h0, {s.B, s.P});
    if (c0) expect("c0", *c0, {s.B, s.H});
    const int64_t count = static_cast<int64_t>(c.shape(0)), every = count ? (s.T + count - 1) / count : 1;
    expect("c", c, {gates ? s.T : (s.T + every - 1) / every, s.B, s.H});
    const auto norm = norm_of(G, s.H, weight_ih.has_value(), gain_ih, gain_hh, gain_c, bias_c);
    if (symbols && gain_ih) throw nb::value_error("symbols: expected only without gain_ih");
    const auto variant = variant_of(s, G, weight_hr, peephole, norm, dropout, zoneout_h, zoneout_c);
    if (gates) expect("gates", *gates, {s.T, s.B, variant.kept(s.H)});
    if (h0.has_value() != c0.has_value()) throw nb::value_error("c0: expected where h0 is given, and only there");
    if (h_n) expect("h_n", *h_n, {1, s.B, s.P});
    if (c_n && !gates) throw nb::value_error("c_n: expected only together with gates");
    if (c_n) expect("c_n", *c_n, {1, s.B, s.H});
    unlocked([&] {
        unrolled::kernels().lstm_forward(
            s, {x.data(), weight_hh.data(), data_or_null(h0), data_or_null(c0), h.data(), c.data(), data_or_null(gates),
                data_or_null(h_n), data_or_null(c_n), every, data_or_null(weight_ih), data_or_null(bias_ih),
                data_or_null(bias_hh), D, variant}, threads_for(s, G, D));
    });
}

// What came to h: of every step, and of the last state.
void expect_arrived(const unrolled::Steps& s, const MaybeIn<3>& grad_h, const MaybeIn<3>& grad_h_n, bool continued) {
    if (grad_h) expect("grad_h", *grad_h, {s.T, s.B, s.P});
    if (grad_h_n) expect("grad_h_n", *grad_h_n, {1, s.B, s.P});
    if (grad_h_n && continued) throw nb::value_error("grad_h_n: expected only where nothing is continued");
}

unrolled::Gradients gradients(const unrolled::Steps& s, int64_t gates, int64_t D, const MaybeIn<2>& weight_ih,
                              const std::optional<AnyRankOut>& grad_x, const MaybeOut<2>& grad_weight_ih,
                              const MaybeOut<2>& grad_weight_hh, const MaybeOut<1>& grad_bias_ih, const MaybeOut<2>& grad_h0,
                              bool continued = false) {
    if (grad_x) expect("grad_x", *grad_x, shape_of_x(s, D));
    if (grad_weight_ih && !weight_ih) throw nb::value_error("grad_weight_ih: expected only where weight_ih is given");
    if (continued && !grad_h0) throw nb::value_error("continued: expected only with the gradients of the initial states");
    if (grad_weight_ih) expect("grad_weight_ih", *grad_weight_ih, {gates * s.H, D});
    if (grad_weight_hh) expect("grad_weight_hh", *grad_weight_hh, {gates * s.H, s.P});
    if (grad_bias_ih) expect("grad_bias_ih", *grad_bias_ih, {gates * s.H});
    if (grad_h0) expect("grad_h0", *grad_h0, {s.B, s.P});
    return {data_or_null(grad_x), data_or_null(grad_weight_ih), data_or_null(grad_weight_hh), data_or_null(grad_bias_ih),
            data_or_null(grad_h0), continued};
}

void lstm_backward(AnyRank x, Symbols symbols, MaybeIn<2> weight_ih, In<2> weight_hh, MaybeIn<2> weight_hr,
                   MaybeIn<2> peephole, MaybeIn<1> gain_ih, MaybeIn<1> gain_hh,
                   MaybeIn<1> gain_c, MaybeIn<1> bias_c, MaybeIn<2> h0, MaybeIn<2> c0, Lengths lengths, Resets resets,
                   bool reverse, bool bfloat16, MaybeFactors dropout, MaybeFactors zoneout_h, MaybeFactors zoneout_c, In<3> h,
                   In<3> c, In<3> gates, MaybeIn<3> grad_h, MaybeIn<3> grad_c, MaybeIn<3> grad_h_n, MaybeIn<3> grad_c_n,
                   std::optional<AnyRankOut> grad_x, MaybeOut<2> grad_weight_ih, MaybeOut<1> grad_bias_ih,
                   MaybeOut<2> grad_weight_hh, MaybeOut<2> grad_weight_hr, MaybeOut<2> grad_peephole,
                   MaybeOut<1> grad_gain_ih, MaybeOut<1> grad_gain_hh, MaybeOut<1> grad_gain_c,
                   MaybeOut<1> grad_bias_c, MaybeOut<2> grad_h0, MaybeOut<2> grad_c0, bool continued) {
    const auto s = make_steps(h, x, symbols, lengths, resets, reverse, bfloat16, weight_hr);
    const int64_t G = gates_of(s, weight_hh), D = expect_input(s, G, x, weight_ih);
    expect_arrived(s, grad_h, grad_h_n, continued);
    if (grad_c) expect("grad_c", *grad_c, {s.T, s.B, s.H});
    if (grad_c_n) expect("grad_c_n", *grad_c_n, {1, s.B, s.H});
    if (grad_c_n && continued) throw nb::value_error("grad_c_n: expected only where nothing is continued");
    expect("weight_hh", weight_hh, {G * s.H, s.P});
    if (h0) expect("h0", *h0, {s.B, s.P});
    if (c0) expect("c0", *c0, {s.B, s.H});
    expect("c", c, {s.T, s.B, s.H});
    if (h0.has_value() != c0.has_value()) throw nb::value_error("c0: expected where h0 is given, and only there");
    if (grad_h0.has_value() != grad_c0.has_value()) throw nb::value_error("grad_c0: expected together with grad_h0");
    if (grad_c0) expect("grad_c0", *grad_c0, {s.B, s.H});
    const auto norm = norm_of(G, s.H, weight_ih.has_value(), gain_ih, gain_hh, gain_c, bias_c);
    if (symbols && gain_ih) throw nb::value_error("symbols: expected only without gain_ih");
    const auto variant = variant_of(s, G, weight_hr, peephole, norm, dropout, zoneout_h, zoneout_c);
    expect("gates", gates, {s.T, s.B, variant.kept(s.H)});
    expect_gradient("peephole", peephole, grad_peephole);
    expect_gradient("weight_hr", weight_hr, grad_weight_hr);
    expect_gradient("gain_ih", gain_ih, grad_gain_ih);
    expect_gradient("gain_hh", gain_hh, grad_gain_hh);
    expect_gradient("gain_c", gain_c, grad_gain_c);
    expect_gradient("bias_c", bias_c, grad_bias_c);
    const auto grad = gradients(s, G, D, weight_ih, grad_x, grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_h0, continued);
    unlocked([&] {
        unrolled::kernels().lstm_backward(
            s, {data_or_null(grad_h), data_or_null(grad_c), data_or_null(grad_h_n), data_or_null(grad_c_n), x.data(),
                data_or_null(weight_ih), weight_hh.data(), data_or_null(h0), data_or_null(c0), h.data(), c.data(), gates.data(),
                D, variant, grad, data_or_null(grad_c0),
                data_or_null(grad_weight_hr), data_or_null(grad_peephole), data_or_null(grad_gain_ih),
                data_or_null(grad_gain_hh), data_or_null(grad_gain_c), data_or_null(grad_bias_c)}, threads_for(s, G, D));
    });
}

void gru_forward(AnyRank x, Symbols symbols, MaybeIn<2> weight_ih, MaybeIn<1> bias_ih, In<2> weight_hh,
                 MaybeIn<1> bias_hh, MaybeIn<2> h0, Lengths lengths, Resets resets, bool reverse, bool bfloat16,
                 MaybeFactors zoneout_h, Out<3> h, MaybeOut<3> gates, MaybeOut<3> h_n) {
    const auto s = make_steps(h, x, symbols, lengths, resets, reverse, bfloat16);
    const auto zoneout = factors("zoneout_h", zoneout_h, s, s.H);
    const int64_t D = expect_input(s, 3, x, weight_ih);
    if (weight_ih) expect_biases(bias_ih, bias_hh, weight_ih, 3 * s.H);
    else expect_bias("bias_ih", bias_ih, weight_ih, 3 * s.H);  // bias_hh has b_hn, which x has not
    expect("weight_hh", weight_hh, {3 * s.H, s.H});
    if (bias_hh) expect("bias_hh", *bias_hh, {3 * s.H});
    if (h0) expect("h0", *h0, {s.B, s.H});
    if (gates) expect("gates", *gates, {s.T, s.B, 4 * s.H});
    if (h_n) expect("h_n", *h_n, {1, s.B, s.H});
    unlocked([&] {
        unrolled::kernels().gru_forward(
            s, {x.data(), weight_hh.data(), data_or_null(h0), h.data(), data_or_null(gates), data_or_null(h_n), data_or_null(weight_ih),
                data_or_null(bias_ih), data_or_null(bias_hh), D, zoneout}, threads_for(s, 3, D));
    });
}

void gru_backward(AnyRank x, Symbols symbols, MaybeIn<2> weight_ih, In<2> weight_hh, MaybeIn<2> h0, Lengths lengths, Resets resets,
                  bool reverse, bool bfloat16, MaybeFactors zoneout_h, In<3> h, In<3> gates, MaybeIn<3> grad_h,
                  MaybeIn<3> grad_h_n, std::optional<AnyRankOut> grad_x, MaybeOut<2> grad_weight_ih, MaybeOut<1> grad_bias_ih,
                  MaybeOut<2> grad_weight_hh, MaybeOut<1> grad_bias_hh, MaybeOut<2> grad_h0, bool continued) {
    const auto s = make_steps(h, x, symbols, lengths, resets, reverse, bfloat16);
    const auto zoneout = factors("zoneout_h", zoneout_h, s, s.H);
    const int64_t D = expect_input(s, 3, x, weight_ih);
    expect("weight_hh", weight_hh, {3 * s.H, s.H});
    if (h0) expect("h0", *h0, {s.B, s.H});
    expect("gates", gates, {s.T, s.B, 4 * s.H});
    expect_arrived(s, grad_h, grad_h_n, continued);
    if (grad_bias_hh) expect("grad_bias_hh", *grad_bias_hh, {3 * s.H});
    const auto grad = gradients(s, 3, D, weight_ih, grad_x, grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_h0, continued);
    unlocked([&] {
        unrolled::kernels().gru_backward(
            s, {data_or_null(grad_h), data_or_null(grad_h_n), x.data(), data_or_null(weight_ih), weight_hh.data(), data_or_null(h0),
                h.data(), gates.data(), D, zoneout, grad, data_or_null(grad_bias_hh)}, threads_for(s, 3, D));
    });
}

void rnn_forward(AnyRank x, Symbols symbols, MaybeIn<2> weight_ih, MaybeIn<1> bias_ih, In<2> weight_hh,
                 MaybeIn<1> bias_hh, MaybeIn<2> h0, Lengths lengths, Resets resets, bool reverse, bool bfloat16, bool relu, Out<3> h,
                 MaybeOut<3> h_n) {
    const auto s = make_steps(h, x, symbols, lengths, resets, reverse, bfloat16);
    const int64_t D = expect_input(s, 1, x, weight_ih);
    expect_biases(bias_ih, bias_hh, weight_ih, s.H);
    expect("weight_hh", weight_hh, {s.H, s.H});
    if (h0) expect("h0", *h0, {s.B, s.H});
    if (h_n) expect("h_n", *h_n, {1, s.B, s.H});
    unlocked([&] {
        unrolled::kernels().rnn_forward(s, {x.data(), weight_hh.data(), data_or_null(h0), h.data(), data_or_null(h_n), relu,
                                            data_or_null(weight_ih), data_or_null(bias_ih), data_or_null(bias_hh), D}, threads_for(s, 1, D));
    });
}

void rnn_backward(AnyRank x, Symbols symbols, MaybeIn<2> weight_ih, In<2> weight_hh, MaybeIn<2> h0, Lengths lengths, Resets resets,
                  bool reverse, bool bfloat16, bool relu, In<3> h, MaybeIn<3> grad_h, MaybeIn<3> grad_h_n,
                  std::optional<AnyRankOut> grad_x, MaybeOut<2> grad_weight_ih, MaybeOut<1> grad_bias_ih,
                  MaybeOut<2> grad_weight_hh, MaybeOut<2> grad_h0) {
    const auto s = make_steps(h, x, symbols, lengths, resets, reverse, bfloat16);
    const int64_t D = expect_input(s, 1, x, weight_ih);
    expect("weight_hh", weight_hh, {s.H, s.H});
    if (h0) expect("h0", *h0, {s.B, s.H});
    expect_arrived(s, grad_h, grad_h_n, false);
    const auto grad = gradients(s, 1, D, weight_ih, grad_x, grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_h0);
    unlocked([&] {
        unrolled::kernels().rnn_backward(s, {data_or_null(grad_h), data_or_null(grad_h_n), x.data(), data_or_null(weight_ih),
                                             weight_hh.data(), data_or_null(h0), h.data(), D, grad, relu}, threads_for(s, 1, D));
    });
}

}  // namespace

void bind_sequences(nb::module_& m) {
    const auto x = "x"_a.noconvert();
    const auto symbols = "symbols"_a.noconvert().none();
    const auto w_ih = "weight_ih"_a.noconvert().none();
    const auto b_ih = "bias_ih"_a.noconvert().none(), b_hh = "bias_hh"_a.noconvert().none();
    const auto w_hh = "weight_hh"_a.noconvert();
    const auto h0 = "h0"_a.noconvert().none(), c0 = "c0"_a.noconvert().none();
    const auto lengths = "lengths"_a.noconvert().none();
    const auto resets = "resets"_a.noconvert().none();
    const auto h = "h"_a.noconvert(), c = "c"_a.noconvert();
    const auto h_n = "h_n"_a.noconvert().none(), c_n = "c_n"_a.noconvert().none();
    const auto grad_h = "grad_h"_a.noconvert().none(), grad_h_n = "grad_h_n"_a.noconvert().none();
    const auto grad_x = "grad_x"_a.noconvert().none();
    const auto grad_w_ih = "grad_weight_ih"_a.noconvert().none();
    const auto grad_b_ih = "grad_bias_ih"_a.noconvert().none();
    const auto grad_w_hh = "grad_weight_hh"_a.noconvert().none();
    const auto grad_h0 = "grad_h0"_a.noconvert().none();
    const auto w_hr = "weight_hr"_a.noconvert().none();
    const auto zoneout_h = "zoneout_h"_a.noconvert().none(), zoneout_c = "zoneout_c"_a.noconvert().none();
    const auto peephole = "peephole"_a.noconvert().none(), dropout = "dropout"_a.noconvert().none();
    const auto gain_ih = "gain_ih"_a.noconvert().none(), gain_hh = "gain_hh"_a.noconvert().none();
    const auto gain_c = "gain_c"_a.noconvert().none(), bias_c = "bias_c"_a.noconvert().none();
    m.def("lstm_forward", &lstm_forward, x, symbols, w_ih, b_ih, w_hh, b_hh, w_hr, peephole, gain_ih, gain_hh, gain_c, bias_c,
          h0, c0, lengths, resets, "reverse"_a, "bfloat16"_a, dropout, zoneout_h, zoneout_c, h, c,
          "gates"_a.noconvert().none(), h_n, c_n);
    m.def("lstm_backward", &lstm_backward, x, symbols, w_ih, w_hh, w_hr, peephole, gain_ih,
          gain_hh, gain_c, bias_c, h0, c0, lengths, resets, "reverse"_a, "bfloat16"_a, dropout, zoneout_h, zoneout_c, h, c,
          "gates"_a.noconvert(), grad_h, "grad_c"_a.noconvert().none(), grad_h_n, "grad_c_n"_a.noconvert().none(), grad_x, grad_w_ih,
          grad_b_ih, grad_w_hh, "grad_weight_hr"_a.noconvert().none(),
          "grad_peephole"_a.noconvert().none(), "grad_gain_ih"_a.noconvert().none(), "grad_gain_hh"_a.noconvert().none(),
          "grad_gain_c"_a.noconvert().none(), "grad_bias_c"_a.noconvert().none(), grad_h0, "grad_c0"_a.noconvert().none(), "continued"_a = false);
    m.def("gru_forward", &gru_forward, x, symbols, w_ih, b_ih, w_hh, b_hh, h0, lengths, resets,
          "reverse"_a, "bfloat16"_a, zoneout_h, h, "gates"_a.noconvert().none(), h_n);
    m.def("gru_backward", &gru_backward, x, symbols, w_ih, w_hh, h0, lengths, resets, "reverse"_a, "bfloat16"_a, zoneout_h, h,
          "gates"_a.noconvert(), grad_h, grad_h_n, grad_x, grad_w_ih, grad_b_ih, grad_w_hh, "grad_bias_hh"_a.noconvert().none(), grad_h0,
          "continued"_a = false);
    m.def("rnn_forward", &rnn_forward, x, symbols, w_ih, b_ih, w_hh, b_hh, h0, lengths, resets, "reverse"_a, "bfloat16"_a, "relu"_a, h, h_n);
    m.def("rnn_backward", &rnn_backward, x, symbols, w_ih, w_hh, h0, lengths, resets, "reverse"_a, "bfloat16"_a, "relu"_a, h,
          grad_h, grad_h_n, grad_x, grad_w_ih, grad_b_ih, grad_w_hh, grad_h0);
}
