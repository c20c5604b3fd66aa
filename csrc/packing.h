// How a layer's weights are packed for inference: in panels, each with all that one pass over the rows needs.
#pragma once

#include <algorithm>

#include "normal.h"
#include "products.h"

namespace unrolled::UNROLLED_ISA {

// A panel of a layer holds the weights of one block of units with all their gates side by side: biases, what a
// variant adds, the product with the input, the product with the state. An RNN's block is four vectors of units. Behind
// the blocks of a layer with a projection stand its panels, each four vectors of outputs: zoneout, the product. Those of a
// layer that is normalised have no biases; between the two stands all that it has besides products (`Vectors`).
template <Cell cell>
struct Block {
    static constexpr int gates = gates_of(cell);
    static constexpr int vectors = gates == 1 ? 4 : 1;  // of units
    static constexpr int N = gates * vectors;
    static constexpr int biases = cell == Cell::gru ? 4 : N;  // the GRU's candidate has two: see unrolled.h
    static constexpr int additions = is_lstm(cell) ? 5 : cell == Cell::gru ? 1 : 0;  // where the layer is modified
    static constexpr int units = vectors * lanes;
};

template <Cell cell, class Product>
struct Layout {
    using B = Block<cell>;
    int64_t input, state, size;  // where the two products begin in a panel, and the panel's floats

    Layout(int64_t D, int64_t P, bool modified)
        : input((B::biases + (modified ? B::additions : 0)) * lanes),
          state(input + Product::template size<B::N>(D)),
          size(state + Product::template size<B::N>(P)) {}
};

// What a normalised layer has besides products, each [H] or, for G gates, [G*H]; zeros where it has none of it. A
// projection has its own zoneout of h.
template <Cell cell, class Float = const float>
struct Vectors {
    static constexpr int G = gates_of(cell), peepholes = G - 1;
    static int64_t size(int64_t H) { return blocks_of((3 * G + peepholes + 4) * H, 16) * 16; }

    const int64_t H;
    Float* bias;
    Float *gain_ih = bias + G * H, *gain_hh = gain_ih + G * H, *gain_c = gain_hh + G * H, *bias_c = gain_c + H;
    Float *peephole = bias_c + H, *zoneout_h = peephole + peepholes * H, *zoneout_c = zoneout_h + H;

    void pack(const Layer& layer) const {
        for (int64_t i = 0; i < G * H; ++i)
            bias[i] = (layer.bias_ih ? layer.bias_ih[i] : 0.0f) + (layer.bias_hh ? layer.bias_hh[i] : 0.0f);
        put(layer.norm.gain_ih, gain_ih, G * H);
        put(layer.norm.gain_hh, gain_hh, G * H);
        put(layer.norm.gain_c, gain_c, H);
        put(layer.norm.bias_c, bias_c, H);
        put(layer.peephole, peephole, peepholes * H);
        put(layer.weight_hr ? nullptr : layer.zoneout_h, zoneout_h, H);
        put(layer.zoneout_c, zoneout_c, H);
    }
    LstmVariant variant() const {
        return {cell == Cell::lstm_coupled, nullptr, peephole, {}, {zoneout_h, 0}, {zoneout_c, 0}, {gain_ih, gain_hh, gain_c, bias_c}};
    }
    // A row's product with its input becomes its share of the gates' sums.
    void share_of_input(float* product) const {
        normalise(product, G * H);
        add_gain(product, gain_ih, bias, G * H, product);
    }

  private:
    static void put(const float* from, float* to, int64_t n) {
        if (from) std::copy_n(from, n, to);
        else std::fill_n(to, n, 0.0f);
    }
};

// A panel of a projection [P, H].
constexpr int projection_vectors = 4, projection_width = projection_vectors * lanes;
template <class Product>
int64_t projection_panel(int64_t H) {
    return projection_width + Product::template size<projection_vectors>(H);
}

template <Cell cell, class Product>
struct Packer {
    using B = Block<cell>;
    const Layer& layer;
    const int64_t H = layer.H, P = layer.P;

    size_t size() const {
        const int64_t of_projection = layer.weight_hr ? blocks_of(P, projection_width) * projection_panel<Product>(H) : 0;
        const int64_t of_norm = layer.norm ? Vectors<cell>::size(H) : 0;
        return blocks_of(H, B::units) * Layout<cell, Product>(layer.D, P, layer.modified()).size + of_norm + of_projection;
    }

    void pack(float* panels) const {
        const Layout<cell, Product> layout(layer.D, P, layer.modified());
        for (int64_t block = 0; block < blocks_of(H, B::units); ++block, panels += layout.size) {
            for (int j = 0; j < B::biases * lanes; ++j) panels[j] = bias(block, j);
            if (layer.modified())
                for (int j = 0; j < B::additions * lanes; ++j) panels[B::biases * lanes + j] = addition(block, j);
            pack_product(layer.weight_ih, layer.D, block, panels + layout.input);
            pack_product(layer.weight_hh, P, block, panels + layout.state);
        }
        if constexpr (is_lstm(cell))
            if (layer.norm) {
                Vectors<cell, float>{H, panels}.pack(layer);
                panels += Vectors<cell>::size(H);
            }
        if (layer.weight_hr) pack_projection(panels);
    }

  private:
    // The row of a weight that a block's output stands for; -1 past the last unit.
    int64_t row(int64_t block, int output) const {
        const int vector = output / lanes;
        const int64_t unit = block * B::units + vector / B::gates * lanes + output % lanes;
        return unit < H ? vector % B::gates * H + unit : -1;
    }
    void pack_product(const float* weight, int64_t K, int64_t block, float* panel) const {
        auto weights_of = [&](int output) {
            const int64_t j = row(block, output);
            return j < 0 ? nullptr : weight + j * K;
        };
        Product::template pack<B::N>(weights_of, K, panel);
    }
    void pack_projection(float* panel) const {
        for (int64_t first = 0; first < P; first += projection_width, panel += projection_panel<Product>(H)) {
            for (int j = 0; j < projection_width; ++j)
                panel[j] = layer.zoneout_h && first + j < P ? layer.zoneout_h[first + j] : 0.0f;
            auto weights_of = [&](int output) { return first + output < P ? layer.weight_hr + (first + output) * H : nullptr; };
            Product::template pack<projection_vectors>(weights_of, H, panel + projection_width);
        }
    }
    float bias(int64_t block, int output) const {
        const bool candidate = cell == Cell::gru && output >= 2 * lanes;  // n from the input, then n from the state
        const int64_t j = row(block, candidate ? output % lanes + 2 * lanes : output);
        if (j < 0 || layer.norm) return 0.0f;
        const float input = layer.bias_ih ? layer.bias_ih[j] : 0.0f, state = layer.bias_hh ? layer.bias_hh[j] : 0.0f;
        return !candidate ? input + state : output < 3 * lanes ? input : state;
    }
    // An LSTM's peepholes of i, f and o, then the zoneout of h (a projection has its own) and of c; a GRU's zoneout of h.
    float addition(int64_t block, int number) const {
        const int64_t unit = block * B::units + number % lanes;
        if (unit >= H) return 0.0f;
        const float* peephole_o = layer.peephole ? layer.peephole + (gates_of(cell) - 2) * H : nullptr;
        const float* peephole_f = cell == Cell::lstm && layer.peephole ? layer.peephole + H : nullptr;
        const float* zoneout_h = layer.weight_hr ? nullptr : layer.zoneout_h;
        const float* of_lstm[] = {layer.peephole, peephole_f, peephole_o, zoneout_h, layer.zoneout_c};
        const float* values = is_lstm(cell) ? of_lstm[number / lanes] : layer.zoneout_h;
        return values ? values[unit] : 0.0f;
    }
};

}  // namespace unrolled::UNROLLED_ISA
