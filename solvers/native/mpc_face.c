/* The Python face of mpc.c: arrays in and out as they lie in memory, sizes and types checked, nothing allocated in a
   step but the tuple that it returns. */
#define PY_SSIZE_T_CLEAN
#include "mpc_face.h"

#include "mpc.h"

#include <stdlib.h>
#include <string.h>

#define ARRAYS 13
#define LONG_WORK 50000.0 /* multiplications in a factorisation from which other threads may run meanwhile */

/* Rows and columns of an array. */
typedef struct {
    Py_ssize_t rows, columns;
} Shape;

typedef struct {
    PyObject_HEAD
    cw_mpc_dims dims;
    Shape shapes[ARRAYS]; /* of the data in their order, and of the trades */
    void *memory;
    cw_mpc *mpc;
    int frees, busy;
} Mpc;

/* The buffer of a C-contiguous float64 array of that shape; further axes may split the rows, and what has one row or
   column may have a single axis. */
static double *take(PyObject *from, Py_buffer *view, Shape shape, int writable, const char *name) {
    if (PyObject_GetBuffer(from, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0)
        return NULL;
    const char *format = view->format == NULL ? "" : view->format;
    const Py_ssize_t count = shape.rows * shape.columns;
    const int vector = shape.rows == 1 || shape.columns == 1;
    if (format[0] == 'd' && format[1] == '\0' && view->len == count * (Py_ssize_t)sizeof(double) && view->ndim >= 1 &&
        (view->ndim == 1 ? vector : count == 0 || view->shape[view->ndim - 1] == shape.columns))
        return view->buf != NULL ? view->buf : (double *)(void *)view; /* an empty one is never read */
    PyBuffer_Release(view);
    PyErr_Format(PyExc_ValueError, "%s: expected %zd x %zd float64 numbers", name, shape.rows, shape.columns);
    return NULL;
}

static void release(Py_buffer *views, int count) {
    while (count > 0) PyBuffer_Release(&views[--count]);
}

static PyObject *mpc_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    int size[4];
    double unit;
    PyObject *given[7];
    if (keywords != NULL && PyDict_Size(keywords) > 0) {
        PyErr_SetString(PyExc_TypeError, "Mpc takes no keywords");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "(iiii)dOOOOOOO", &size[0], &size[1], &size[2], &size[3], &unit, &given[0], &given[1],
                          &given[2], &given[3], &given[4], &given[5], &given[6]))
        return NULL;
    const cw_mpc_dims dims = {size[0], size[1], size[2], size[3]};
    const size_t bytes = cw_mpc_bytes(&dims);
    if (bytes == 0) {
        PyErr_SetString(PyExc_ValueError, "the sizes make no sense or are too large");
        return NULL;
    }
    const Py_ssize_t m = size[0], k = size[1], M = size[2], H = size[3];
    const Shape shapes[7] = {{k, m}, {m, m}, {M * m, m}, {1, M}, {k, k}, {1, H}, {1, k}};
    static const char *const names[7] = {"E", "lambda", "L", "rho", "sigma", "gamma", "eta"};
    Py_buffer views[7];
    const double *a[7];
    for (int i = 0; i < 7; i++)
        if ((a[i] = take(given[i], &views[i], shapes[i], 0, names[i])) == NULL) {
            release(views, i);
            return NULL;
        }
    Mpc *self = NULL;
    void *memory = malloc(bytes);
    if (memory == NULL) {
        PyErr_NoMemory();
    } else {
        const cw_mpc_model model = {unit, a[0], a[1], a[2], a[3], a[4], a[5], a[6]};
        cw_mpc *mpc = cw_mpc_init(memory, &dims, &model);
        if (mpc == NULL) {
            PyErr_SetString(PyExc_ValueError, "the model is not finite, out of range or not convex");
        } else {
            allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
            self = (Mpc *)allocate(type, 0);
        }
        if (self == NULL) {
            free(memory);
        } else {
            const Shape data[ARRAYS] = {{1, k}, {M, m}, {1, m}, {H, k}, {H, m}, {H, k}, {H, m},
                                        {H, m}, {1, m}, {H, k}, {H, k}, {H, k}, {H, m}};
            memcpy(self->shapes, data, sizeof data);
            const double width = (double)(k + M * m + m);
            self->dims = dims, self->memory = memory, self->mpc = mpc, self->busy = 0;
            self->frees = (double)H * (double)m * width * width >= LONG_WORK;
        }
    }
    release(views, 7);
    return (PyObject *)self;
}

static void mpc_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    free(((Mpc *)object)->memory);
    freefunc release_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release_object(object);
    Py_DECREF(type);
}

/* Whether the solver is free; only one thread at a time may be in it. */
static int idle(const Mpc *self) {
    if (!self->busy) return 1;
    PyErr_SetString(PyExc_RuntimeError, "another thread is solving with this solver: give each thread its own");
    return 0;
}

static PyObject *mpc_step(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    Mpc *self = (Mpc *)object;
    static const char *const names[ARRAYS] = {"gap",  "state", "last",    "plan",  "linear", "carry", "spread",
                                              "cap",  "rate",  "gap_cap", "price", "curve",  "trades"};
    if (count != ARRAYS + 3) {
        PyErr_SetString(PyExc_TypeError, "step(gap, state, last, plan, linear, carry, spread, cap, rate, gap_cap, "
                                         "price, curve, trades, shift, tol, work)");
        return NULL;
    }
    const long shift = PyLong_AsLong(args[ARRAYS]), work = PyLong_AsLong(args[ARRAYS + 2]);
    const double tol = PyFloat_AsDouble(args[ARRAYS + 1]);
    if (PyErr_Occurred() || !idle(self)) return NULL;
    Py_buffer views[ARRAYS];
    double *a[ARRAYS];
    for (int i = 0; i < ARRAYS; i++)
        if ((a[i] = take(args[i], &views[i], self->shapes[i], i + 1 == ARRAYS, names[i])) == NULL) {
            release(views, i);
            return NULL;
        }
    const cw_mpc_data data = {a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11]};
    const int by = shift < 0 ? 0 : shift > self->dims.horizon ? self->dims.horizon : (int)shift;
    const int most = work < 0 ? 0 : work > 100000 ? 100000 : (int)work;
    cw_mpc_result out;
    self->busy = 1;
    if (self->frees) {
        Py_BEGIN_ALLOW_THREADS
        out = cw_mpc_step(self->mpc, &data, by, tol, most, a[12]);
        Py_END_ALLOW_THREADS
    } else {
        out = cw_mpc_step(self->mpc, &data, by, tol, most, a[12]);
    }
    self->busy = 0;
    release(views, ARRAYS);
    return Py_BuildValue("(iiiidd)", out.status, out.relaxed, out.factorisations, out.steps, out.objective, out.gap);
}

static PyObject *mpc_prices(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    Mpc *self = (Mpc *)object;
    if (count != 3) {
        PyErr_SetString(PyExc_TypeError, "prices(trade, gap, rate)");
        return NULL;
    }
    if (!idle(self)) return NULL;
    const Shape trades = self->shapes[12], gaps = self->shapes[3], shapes[3] = {trades, gaps, trades};
    static const char *const names[3] = {"trade", "gap", "rate"};
    Py_buffer views[3];
    double *a[3];
    for (int i = 0; i < 3; i++)
        if ((a[i] = take(args[i], &views[i], shapes[i], 1, names[i])) == NULL) {
            release(views, i);
            return NULL;
        }
    cw_mpc_prices(self->mpc, a[0], a[1], a[2]);
    release(views, 3);
    Py_RETURN_NONE;
}

static PyObject *mpc_reset(PyObject *object, PyObject *ignored) {
    (void)ignored;
    if (!idle((Mpc *)object)) return NULL;
    cw_mpc_reset(((Mpc *)object)->mpc);
    Py_RETURN_NONE;
}

static PyObject *mpc_save(PyObject *object, PyObject *ignored) {
    (void)ignored;
    Mpc *self = (Mpc *)object;
    if (!idle(self)) return NULL;
    const size_t bytes = cw_mpc_saved_bytes(self->mpc);
    char *buffer = malloc(bytes);
    if (buffer == NULL) return PyErr_NoMemory();
    cw_mpc_save(self->mpc, buffer);
    PyObject *out = PyBytes_FromStringAndSize(buffer, (Py_ssize_t)bytes);
    free(buffer);
    return out;
}

static PyObject *mpc_restore(PyObject *object, PyObject *from) {
    Mpc *self = (Mpc *)object;
    char *buffer;
    Py_ssize_t bytes;
    if (!idle(self) || PyBytes_AsStringAndSize(from, &buffer, &bytes) < 0) return NULL;
    return PyBool_FromLong(cw_mpc_restore(self->mpc, buffer, (size_t)bytes));
}

static PyMethodDef mpc_methods[] = {
    {"step", (PyCFunction)(void (*)(void))mpc_step, METH_FASTCALL,
     "step(gap, state, last, plan, linear, carry, spread, cap, rate, gap_cap, price, curve, trades, shift, tol, work)\n"
     "--\n\nSolve one step into `trades`: (status, relaxed, factorisations, interior-point steps, objective, gap)."},
    {"prices", (PyCFunction)(void (*)(void))mpc_prices, METH_FASTCALL,
     "prices(trade, gap, rate)\n--\n\nWrite the prices of the last step."},
    {"reset", mpc_reset, METH_NOARGS, "reset()\n--\n\nForget the warm start."},
    {"save", mpc_save, METH_NOARGS, "save()\n--\n\nThe warm start as bytes."},
    {"restore", mpc_restore, METH_O, "restore(bytes)\n--\n\nTake a saved warm start; False, and nothing changed, where "
                                     "it does not fit."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot mpc_slots[] = {
    {Py_tp_new, mpc_new},
    {Py_tp_dealloc, mpc_dealloc},
    {Py_tp_methods, mpc_methods},
    {Py_tp_doc, "The receding-horizon solver of mpc.c."},
    {0, NULL},
};

static PyType_Spec mpc_spec = {"crosswind.solvers.native._core.Mpc", sizeof(Mpc), 0, Py_TPFLAGS_DEFAULT, mpc_slots};

int cw_mpc_add(PyObject *module) {
    PyObject *type = PyType_FromSpec(&mpc_spec);
    if (type == NULL) return -1;
    const int failed = PyModule_AddObjectRef(module, "Mpc", type);
    Py_DECREF(type);
    return failed;
}
