/* Whether an iterate of a quadratic program passes its certificate: the measures of solvers/certify_fast.py in C11.
 *
 *     min 1/2 x'Px + q'x   s.t.   l <= Ax <= u,  lb <= x <= ub
 *
 * No allocation after cw_check_new, no globals, a bound on the work: O(n + m + nnz) a call.
 */
#ifndef CROSSWIND_CHECK_H
#define CROSSWIND_CHECK_H

#include <stddef.h>

typedef struct {
    int rows, columns;      /* of the matrix */
    const int *start;       /* (columns + 1) for CSC, (rows + 1) for CSR */
    const int *index;
    const double *value;
} cw_sparse;

typedef struct cw_check cw_check;

/* P and A by columns, row_size = |A| by rows; all copied. half_bend (n): 1 / (2 kappa), P >= diag(kappa), large where
 * kappa is zero. The reference vectors give the pattern of the bounds and the size of the data that must stay.
 * NULL when memory is short. */
cw_check *cw_check_new(const cw_sparse *P, const cw_sparse *A, const cw_sparse *row_size, const double *half_bend,
                       const double *q, const double *l, const double *u, const double *lb, const double *ub,
                       double tol);
void cw_check_free(cw_check *check);
int cw_check_variables(const cw_check *check);
int cw_check_rows(const cw_check *check);

/* Take over new vectors, NULL where one stays. 0, and nothing changed, when the pattern of the bounds or the size of
 * the data is another one (NaN included). */
int cw_check_take(cw_check *check, const double *q, const double *l, const double *u, const double *lb,
                  const double *ub);

/* 1 when x (n) and w = (y, z) (m + n) pass; 0 means: ask the full certificate. */
int cw_check_passes(cw_check *check, const double *x, const double *w);

#endif
