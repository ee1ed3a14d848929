/* Receding-horizon hedge: one convex program per step, solved by its structure. C11, no malloc, no globals.

   m instruments, k exposures, M impact modes, H slices. Decide signed trades h_t (m), t = 0..H-1:

     G_{t+1} = G_t + w_t - E h_t                       exposure gaps (k)
     z_{j,t+1} = rho_j (z_jt + L_j' h_t)               impact states (m each), K_j = L_j L_j'

     min  sum_t  c_t'|h_t| + h_t'Lam h_t + a_t'h_t + sum_j (L_j z_jt)'h_t + 1/2 h_t'K_j h_t
                 + gamma_t G_{t+1}'Sigma G_{t+1} + g_t'G_{t+1} + psi_t(G_{t+1})  +  G_H' diag(eta) G_H
     s.t. |h_t| <= cap_t,   |h_t - h_{t-1}| <= delta

     psi(G) = p1 (|G| - gmax)+ + 1/2 p2 (|G| - gmax)+^2   per exposure.

   Trade limits are never broken; the gap cap is soft. Where the last trade breaks the rate limit, the smallest
   relaxation is taken and told. All arrays are row-major, slices outermost. INFINITY is no limit. */
#ifndef CROSSWIND_MPC_H
#define CROSSWIND_MPC_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cw_mpc cw_mpc;

typedef struct {
    int instruments, exposures, modes, horizon;
} cw_mpc_dims;

typedef struct {
    double unit;           /* a usual trade, > 0: what the work is scaled by */
    const double *E;       /* k x m */
    const double *lambda;  /* m x m symmetric PSD */
    const double *L;       /* M x m x m */
    const double *rho;     /* M, in [1e-6, 1]: what is gone within a slice belongs into lambda, as 1/2 L L' */
    const double *sigma;   /* k x k symmetric PSD */
    const double *gamma;   /* H, >= 0 */
    const double *eta;     /* k, >= 0 */
} cw_mpc_model;

typedef struct {
    const double *gap;     /* k: G_0 */
    const double *state;   /* M x m: z_0 */
    const double *last;    /* m: h_{-1} */
    const double *plan;    /* H x k: w */
    const double *linear;  /* H x m: a */
    const double *carry;   /* H x k: g */
    const double *spread;  /* H x m: c >= 0 */
    const double *cap;     /* H x m >= 0 */
    const double *rate;    /* m >= 0: delta */
    const double *gap_cap; /* H x k >= 0: gmax */
    const double *price;   /* H x k >= 0: p1 */
    const double *curve;   /* H x k >= 0: p2 */
} cw_mpc_data;

typedef enum {
    CW_MPC_OPTIMAL = 0,   /* gap proven to be within the tolerance */
    CW_MPC_CERTIFIED = 1, /* work used up: feasible, gap known and above it */
    CW_MPC_REFUSED = 3    /* data not finite, negative limits, or beyond 1e9 units: the trades are left as they were */
} cw_mpc_status;

typedef struct {
    int status;         /* cw_mpc_status */
    int relaxed;        /* 1: the last trade broke the rate limit, which gave way by the least */
    int factorisations; /* work done, of the bound on it */
    int steps;          /* interior-point iterations among it */
    double objective;   /* cost of the trades returned */
    double gap;         /* it is within this of the best that there is */
} cw_mpc_result;

/* Bytes that `cw_mpc_init` needs; 0 for sizes that make no sense. */
size_t cw_mpc_bytes(const cw_mpc_dims *dims);

/* Set up in `memory`, aligned as malloc's is; NULL where the model is not finite, out of range or not convex. */
cw_mpc *cw_mpc_init(void *memory, const cw_mpc_dims *dims, const cw_mpc_model *model);

/* Forget the warm start. */
void cw_mpc_reset(cw_mpc *mpc);

/* Solve one step into `trades` (H x m). `shift` says by how many slices the data have moved since the last step;
   `tol` is the gap asked for, relative to the cost's own size; at most `work` factorisations. */
cw_mpc_result cw_mpc_step(cw_mpc *mpc, const cw_mpc_data *data, int shift, double tol, int work, double *trades);

/* The warm start as bytes, to be kept over a restart: what follows is the same to the last bit. `restore` returns 0,
   and changes nothing, where the bytes are of another model or damaged. Bytes are of one machine's kind. */
size_t cw_mpc_saved_bytes(const cw_mpc *mpc);
void cw_mpc_save(const cw_mpc *mpc, void *to);
int cw_mpc_restore(cw_mpc *mpc, const void *from, size_t bytes);

/* Prices after a step, in cost per unit: trades H x m (beyond the spread: of the cap), gaps H x k, rates H x m. */
void cw_mpc_prices(const cw_mpc *mpc, double *trade, double *gap, double *rate);

#ifdef __cplusplus
}
#endif
#endif
