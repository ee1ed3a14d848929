// The receding-horizon core inside a C++ algo: one buffer, one step a slice, a decision that keeps its limits.
//   cc -std=c11 -O2 -ffp-contract=off -c solvers/native/mpc.c
//   c++ -std=c++17 -Isolvers/native examples/embed_mpc.cpp mpc.o -lm -o embed && ./embed
#include "mpc.h"

#include <array>
#include <cstdio>
#include <limits>
#include <memory>

constexpr int H = 20;       // slices ahead
constexpr double unit = 1;  // a usual trade, in contracts

int main() {
    // One future on one exposure; a trade costs spread and impact that fades by 0.8 a slice.
    const double E = 1, lambda = 0.02, L = 0.3, rho = 0.8, sigma = 1, eta = 0.5;
    std::array<double, H> gamma, plan{}, zero{}, spread, cap, gap_cap, price;
    gamma.fill(0.02), spread.fill(0.05), cap.fill(1.5), gap_cap.fill(4), price.fill(1);
    const double rate = std::numeric_limits<double>::infinity();  // no limit on the change

    const cw_mpc_dims dims{1, 1, 1, H};
    const cw_mpc_model model{unit, &E, &lambda, &L, &rho, &sigma, gamma.data(), &eta};
    auto memory = std::make_unique<unsigned char[]>(cw_mpc_bytes(&dims));
    cw_mpc *mpc = cw_mpc_init(memory.get(), &dims, &model);
    if (mpc == nullptr) return 1;

    double gap = 8, state = 0, last = 0;  // eight contracts are to be hedged
    plan[5] = 4;                          // and four more are expected in six slices
    std::array<double, H> trades{};
    for (int slice = 0; slice < 12; slice++) {
        const cw_mpc_data data{&gap,          &state,     &last, plan.data(),    zero.data(),  zero.data(),
                               spread.data(), cap.data(), &rate, gap_cap.data(), price.data(), zero.data()};
        const cw_mpc_result r = cw_mpc_step(mpc, &data, 1, 1e-8, 40, trades.data());
        const char *word = r.status == CW_MPC_OPTIMAL ? "optimal" : "gap known";
        if (r.status == CW_MPC_REFUSED) return 2;  // stale or broken data: nothing is traded
        std::printf("%2d gap %7.4f trade %7.4f cost to go %8.4f +- %.0e (%s, work %d)\n", slice, gap, trades[0],
                    r.objective, r.gap, word, r.factorisations);
        last = trades[0];
        gap += plan[0] - E * last;
        state = rho * (state + L * last);
        for (int t = 0; t + 1 < H; t++) plan[t] = plan[t + 1];
        plan[H - 1] = 0;
    }
    return gap < 8 ? 0 : 3;
}
