/* Random sizes, models, data, snapshots and requests for mpc.c, to be run under sanitizers: fuzz SECONDS SEED.
   A third of all numbers are random bits, a third special values, the rest sane. What must hold whatever comes in:
   refused data leave trades as they were; else trades keep caps and rates to the last bit, numbers are finite, the work
   is within its bound, and the data are untouched. */
#include "mpc.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t seed;

static uint64_t bits(void) {
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return seed * 2685821657736338717U;
}

static int below(int n) { return (int)(bits() >> 33) % n; }
static double unit(void) { return (double)(bits() >> 11) * 0x1p-53; }

static double number(int wild, double low, double high) {
    static const double special[] = {0.0,   -0.0,   INFINITY, -INFINITY, NAN,  5e-324, -5e-324, 2.2e-308, 1e-200, 1e-12,
                                     1e300, -1e300, 1e9,      1.1e9,     -1e9, 1e-9,   1.0,     -1.0,     1e8,    0.1};
    const int kind = wild ? below(30) : 10;
    if (kind == 0) {
        const uint64_t b = bits();
        double v;
        memcpy(&v, &b, sizeof v);
        return v;
    }
    if (kind <= 2) return special[below((int)(sizeof special / sizeof *special))];
    if (kind == 3) return ldexp(low + (high - low) * unit(), below(120) - 60);
    return low + (high - low) * unit();
}

/* Arrays of their own, so that a read beyond an end is seen. */
static double *numbers(size_t count, int wild, double low, double high) {
    double *out = malloc(count ? count * sizeof(double) : 1);
    if (out == NULL) exit(9);
    for (size_t i = 0; i < count; i++) out[i] = number(wild, low, high);
    return out;
}

static void fail(const char *what, int code) {
    fprintf(stderr, "%s\n", what);
    exit(code);
}

#define ARRAYS 12

int main(int argc, char **argv) {
    const double seconds = argc > 1 ? atof(argv[1]) : 1.0;
    seed = argc > 2 ? strtoull(argv[2], NULL, 10) * 7919U + 88172645463325252U : 88172645463325252U;
    long steps = 0, refused = 0, optimal = 0, models = 0, barred = 0;
    const clock_t begin = clock();
    while ((double)(clock() - begin) < seconds * CLOCKS_PER_SEC) {
        const cw_mpc_dims dims = {1 + below(4), 1 + below(4), below(4), 1 + below(14)};
        const size_t m = (size_t)dims.instruments, k = (size_t)dims.exposures, M = (size_t)dims.modes,
                     H = (size_t)dims.horizon;
        const int odd = below(4) == 0;
        double *lambda = numbers(m * m, odd, 0.0, 0.1), *sigma = numbers(k * k, odd, 0.0, 0.1);
        for (size_t i = 0; i < m; i++) lambda[i * m + i] += 0.5;
        for (size_t i = 0; i < k; i++) sigma[i * k + i] += 0.5;
        double *E = numbers(k * m, odd, -1.0, 1.0), *L = numbers(M * m * m, odd, -0.5, 0.5);
        double *rho = numbers(M, odd, 0.1, 1.0), *gamma = numbers(H, odd, 0.0, 0.3), *eta = numbers(k, odd, 0.0, 1.0);
        const double scale = below(2) ? 1.0 : ldexp(1.0 + unit(), below(40) - 20);
        const cw_mpc_model model = {odd ? number(1, 0.1, 10.0) : scale, E, lambda, L, rho, sigma, gamma, eta};
        void *memory = malloc(cw_mpc_bytes(&dims));
        cw_mpc *mpc = cw_mpc_init(memory, &dims, &model);
        models++;
        if (mpc == NULL && !odd) fail("a sound model was refused", 2);
        barred += mpc == NULL;
        const size_t sizes[ARRAYS] = {k, M * m, m, H * k, H * m, H * k, H * m, H * m, m, H * k, H * k, H * k};
        for (int step = 0; mpc != NULL && step < 40; step++) {
            static const double low[ARRAYS] = {-2, -1, -1, -1, -0.1, -0.1, 0, 0, 0, 0, 0, 0};
            static const double high[ARRAYS] = {2, 1, 1, 1, 0.1, 0.1, 0.3, 1, 0.5, 1, 1, 1};
            double *a[ARRAYS], *before[ARRAYS];
            const int wild = below(3) == 0, rest = wild ? 1 << below(ARRAYS) : 0;
            for (int i = 0; i < ARRAYS; i++) {
                a[i] = numbers(sizes[i], rest >> i & 1, low[i] * model.unit, high[i] * model.unit);
                if (i >= 7 && i <= 9 && below(3) == 0) /* caps, rates, gap caps: none, or shut here and there */
                    for (size_t n = 0; n < sizes[i]; n++) a[i][n] = below(3) ? INFINITY : below(2) ? 0.0 : a[i][n];
                before[i] = malloc(sizes[i] ? sizes[i] * sizeof(double) : 1);
                if (before[i] == NULL) return 9;
                memcpy(before[i], a[i], sizes[i] * sizeof(double));
            }
            const cw_mpc_data data = {a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]};
            double *trades = numbers(H * m, 0, 7.0, 7.0);
            const int shift = below(8) ? below(3) : (int)bits(), work = below(4) ? 40 : below(60) - 5;
            const double tol = below(8) ? 1e-8 : number(1, 0.0, 1e-3);
            const cw_mpc_result r = cw_mpc_step(mpc, &data, shift, tol, work, trades);
            steps++;
            for (int i = 0; i < ARRAYS; i++)
                if (memcmp(a[i], before[i], sizes[i] * sizeof(double)) != 0) fail("the data were changed", 3);
            if (r.status == CW_MPC_REFUSED) {
                refused++;
                if (!wild && !odd) fail("sound data were refused", 4);
                for (size_t n = 0; n < H * m; n++)
                    if (trades[n] != 7.0) fail("refused data changed the trades", 5);
            } else {
                optimal += r.status == CW_MPC_OPTIMAL;
                if (r.factorisations > (work > 0 ? work : 0)) fail("more work than allowed", 6);
                if (!isfinite(r.objective) || !(r.gap >= 0.0)) fail("objective or gap is no number", 7);
                for (size_t t = 0; t < H; t++)
                    for (size_t i = 0; i < m; i++) {
                        const volatile double h = trades[t * m + i];
                        const volatile double change = h - (t ? trades[(t - 1) * m + i] : a[2][i]);
                        if (!(fabs(h) <= a[7][t * m + i])) fail("a cap is broken", 8);
                        if ((t > 0 || !r.relaxed) && !(fabs(change) <= a[8][i])) fail("a rate is broken", 10);
                    }
            }
            double *p = numbers(H * m, 0, 0, 0), *q = numbers(H * k, 0, 0, 0), *s = numbers(H * m, 0, 0, 0);
            cw_mpc_prices(mpc, p, q, s);
            for (size_t n = 0; n < H * m; n++)
                if (!isfinite(p[n]) || !isfinite(s[n])) fail("a price is no number", 11);
            for (size_t n = 0; n < H * k; n++)
                if (!isfinite(q[n])) fail("a price is no number", 11);
            if (below(10) == 0) {
                const size_t bytes = cw_mpc_saved_bytes(mpc);
                unsigned char *saved = malloc(bytes);
                if (saved == NULL) return 9;
                cw_mpc_save(mpc, saved);
                if (!cw_mpc_restore(mpc, saved, bytes)) fail("its own bytes were refused", 12);
                saved[(size_t)below((int)bytes)] ^= (unsigned char)(1 << below(8));
                if (cw_mpc_restore(mpc, saved, bytes)) fail("damaged bytes were taken", 13);
                free(saved);
            }
            if (below(10) == 0) cw_mpc_reset(mpc);
            free(p), free(q), free(s), free(trades);
            for (int i = 0; i < ARRAYS; i++) free(a[i]), free(before[i]);
        }
        free(lambda), free(sigma), free(E), free(L), free(rho), free(gamma), free(eta), free(memory);
    }
    printf("%ld models, %ld refused; %ld steps, %ld refused, %ld optimal\n", models, barred, steps, refused, optimal);
    return 0;
}
