/* The Python face of the C sources of this folder, in the stable interface of CPython 3.11. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>

#include "check.h"
#include "mpc_face.h"
#include "schedule_face.h"

typedef struct {
    PyObject_HEAD
    cw_check *check;
    Py_ssize_t n, m;
} Check;

/* A contiguous vector of `count` items (any number where it is -1) of one type; 0 with an exception set. */
static int vector(PyObject *from, Py_buffer *view, char type, Py_ssize_t count, int flags) {
    if (PyObject_GetBuffer(from, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags) < 0) return 0;
    if (view->ndim == 1 && view->format != NULL && view->format[0] == type && view->format[1] == '\0' &&
        (count < 0 || view->shape[0] == count))
        return 1;
    PyBuffer_Release(view);
    PyErr_Format(PyExc_ValueError, "expected a vector of %zd items of type %c", count, type);
    return 0;
}

static void release(Py_buffer *views, int count) {
    while (count-- > 0)
        if (views[count].obj != NULL) PyBuffer_Release(&views[count]);
}

static PyObject *check_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"P", "A", "row_size", "half_bend", "q", "l", "u", "lb", "ub", "tol", NULL};
    PyObject *matrix[9], *given[6];
    double tol;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "(OOO)(OOO)(OOO)OOOOOOd", names, &matrix[0], &matrix[1],
                                     &matrix[2], &matrix[3], &matrix[4], &matrix[5], &matrix[6], &matrix[7],
                                     &matrix[8], &given[0], &given[1], &given[2], &given[3], &given[4], &given[5],
                                     &tol))
        return NULL;
    Py_buffer views[15];
    memset(views, 0, sizeof views);
    int held = 0;
    for (; held < 9; held++)
        if (!vector(matrix[held], &views[held], held % 3 == 2 ? 'd' : 'i', -1, 0)) goto refused;
    Py_ssize_t n = views[0].shape[0] - 1, m = views[6].shape[0] - 1;
    Py_ssize_t sizes[6] = {n, n, m, m, n, n};
    for (; held < 15; held++)
        if (!vector(given[held - 9], &views[held], 'd', sizes[held - 9], 0)) goto refused;
    /* Starts that do not fit the stored entries would be read beyond their end. */
    for (int k = 0; k < 3; k++) {
        const int *start = views[3 * k].buf, *index = views[3 * k + 1].buf;
        Py_ssize_t lines = k < 2 ? n : m, across = k == 0 ? n : (k == 1 ? m : n);
        Py_ssize_t stored = views[3 * k + 1].shape[0];
        int sound = lines >= 0 && views[3 * k].shape[0] == lines + 1 && views[3 * k + 2].shape[0] == stored &&
                    start[0] == 0 && start[lines] == stored;
        for (Py_ssize_t i = 0; sound && i < lines; i++) sound = start[i] <= start[i + 1];
        for (Py_ssize_t i = 0; sound && i < stored; i++) sound = index[i] >= 0 && index[i] < across;
        if (!sound) {
            PyErr_SetString(PyExc_ValueError, "the parts of a sparse matrix do not fit together");
            goto refused;
        }
    }
    if (views[4].shape[0] != views[7].shape[0]) {
        PyErr_SetString(PyExc_ValueError, "A by columns and by rows store different numbers of entries");
        goto refused;
    }
    cw_sparse P = {(int)n, (int)n, views[0].buf, views[1].buf, views[2].buf};
    cw_sparse A = {(int)m, (int)n, views[3].buf, views[4].buf, views[5].buf};
    cw_sparse R = {(int)m, (int)n, views[6].buf, views[7].buf, views[8].buf};
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Check *self = (Check *)allocate(type, 0);
    if (self != NULL) {
        self->n = n;
        self->m = m;
        self->check = cw_check_new(&P, &A, &R, views[9].buf, views[10].buf, views[11].buf, views[12].buf,
                                   views[13].buf, views[14].buf, tol);
        if (self->check == NULL) {
            Py_DECREF(self);
            self = NULL;
            PyErr_NoMemory();
        }
    }
    release(views, held);
    return (PyObject *)self;
refused:
    release(views, held);
    return NULL;
}

static void check_dealloc(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    cw_check_free(((Check *)object)->check);
    freefunc release_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release_object(object);
    Py_DECREF(type);
}

static PyObject *check_take(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    Check *self = (Check *)object;
    if (count != 5) {
        PyErr_SetString(PyExc_TypeError, "take(q, l, u, lb, ub): None where one stays");
        return NULL;
    }
    const Py_ssize_t sizes[5] = {self->n, self->m, self->m, self->n, self->n};
    Py_buffer views[5];
    const double *data[5] = {NULL, NULL, NULL, NULL, NULL};
    memset(views, 0, sizeof views);
    for (int k = 0; k < 5; k++) {
        if (args[k] == Py_None) continue;
        if (!vector(args[k], &views[k], 'd', sizes[k], 0)) {
            release(views, k);
            return NULL;
        }
        data[k] = views[k].buf;
    }
    int taken = cw_check_take(self->check, data[0], data[1], data[2], data[3], data[4]);
    release(views, 5);
    return PyBool_FromLong(taken);
}

static PyObject *check_passes(PyObject *object, PyObject *const *args, Py_ssize_t count) {
    Check *self = (Check *)object;
    Py_buffer x, w;
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "passes(x, w)");
        return NULL;
    }
    if (!vector(args[0], &x, 'd', self->n, 0)) return NULL;
    if (!vector(args[1], &w, 'd', self->m + self->n, 0)) {
        PyBuffer_Release(&x);
        return NULL;
    }
    int passed = cw_check_passes(self->check, x.buf, w.buf);
    PyBuffer_Release(&x);
    PyBuffer_Release(&w);
    return PyBool_FromLong(passed);
}

static PyMethodDef check_methods[] = {
    {"take", (PyCFunction)(void (*)(void))check_take, METH_FASTCALL,
     "take(q, l, u, lb, ub)\n--\n\nTake over new vectors, None where one stays; False, and nothing changed, when they "
     "do not suit."},
    {"passes", (PyCFunction)(void (*)(void))check_passes, METH_FASTCALL,
     "passes(x, w)\n--\n\nTell whether (x, w) passes for certain."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot check_slots[] = {
    {Py_tp_new, check_new},
    {Py_tp_dealloc, check_dealloc},
    {Py_tp_methods, check_methods},
    {Py_tp_doc, "The test of certify_fast.FastCheck, compiled."},
    {0, NULL},
};

static PyType_Spec check_spec = {"crosswind.solvers.native._core.Check", sizeof(Check), 0, Py_TPFLAGS_DEFAULT,
                                 check_slots};

/* out[i] = from[index[i]] * factor, or from[i] * factor where index is None. */
static PyObject *gather(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 4) {
        PyErr_SetString(PyExc_TypeError, "gather(source, index, factor, out)");
        return NULL;
    }
    double factor = PyFloat_AsDouble(args[2]);
    if (factor == -1.0 && PyErr_Occurred()) return NULL;
    Py_buffer from, index, out;
    memset(&index, 0, sizeof index);
    if (!vector(args[3], &out, 'd', -1, PyBUF_WRITABLE)) return NULL;
    Py_ssize_t size = out.shape[0];
    int all = args[1] == Py_None;
    if (!vector(args[0], &from, 'd', all ? size : -1, 0)) {
        PyBuffer_Release(&out);
        return NULL;
    }
    if (!all && !vector(args[1], &index, 'i', size, 0)) {
        PyBuffer_Release(&out);
        PyBuffer_Release(&from);
        return NULL;
    }
    const double *source = from.buf;
    const int *at = index.buf;
    double *target = out.buf;
    int sound = 1;
    if (all)
        for (Py_ssize_t i = 0; i < size; i++) target[i] = source[i] * factor;
    else
        for (Py_ssize_t i = 0; i < size; i++) {
            if (at[i] < 0 || at[i] >= from.shape[0]) {
                sound = 0;
                break;
            }
            target[i] = source[at[i]] * factor;
        }
    PyBuffer_Release(&out);
    PyBuffer_Release(&from);
    if (!all) PyBuffer_Release(&index);
    if (!sound) {
        PyErr_SetString(PyExc_IndexError, "an index lies outside the source");
        return NULL;
    }
    Py_RETURN_NONE;
}

/* out[index[i]] = (plus[i] - minus[i]) * factor, i over the index; minus None: nothing is taken off. */
static PyObject *scatter(PyObject *module, PyObject *const *args, Py_ssize_t count) {
    (void)module;
    if (count != 6) {
        PyErr_SetString(PyExc_TypeError, "scatter(plus, minus, start, index, factor, out)");
        return NULL;
    }
    Py_ssize_t start = PyLong_AsSsize_t(args[2]);
    double factor = PyFloat_AsDouble(args[4]);
    if (PyErr_Occurred()) return NULL;
    Py_buffer plus, minus, index, out;
    int less = args[1] != Py_None, good = 0;
    if (!vector(args[0], &plus, 'd', -1, 0)) return NULL;
    if (less && !vector(args[1], &minus, 'd', plus.shape[0], 0)) goto free_plus;
    if (!vector(args[3], &index, 'i', -1, 0)) goto free_minus;
    if (!vector(args[5], &out, 'd', -1, PyBUF_WRITABLE)) goto free_index;
    good = start >= 0 && index.shape[0] <= plus.shape[0] && start <= plus.shape[0] - index.shape[0];
    const double *above = plus.buf, *below = less ? minus.buf : NULL;
    const int *at = index.buf;
    double *target = out.buf;
    for (Py_ssize_t i = 0; good && i < index.shape[0]; i++) {
        good = at[i] >= 0 && at[i] < out.shape[0];
        if (good) target[at[i]] = (above[start + i] - (below ? below[start + i] : 0.0)) * factor;
    }
    if (!good) PyErr_SetString(PyExc_IndexError, "an index lies outside its vector");
    PyBuffer_Release(&out);
free_index:
    PyBuffer_Release(&index);
free_minus:
    if (less) PyBuffer_Release(&minus);
free_plus:
    PyBuffer_Release(&plus);
    if (!good) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"gather", (PyCFunction)(void (*)(void))gather, METH_FASTCALL,
     "gather(source, index, factor, out)\n--\n\nout[i] = source[index[i]] * factor; index None: all in order."},
    {"scatter", (PyCFunction)(void (*)(void))scatter, METH_FASTCALL,
     "scatter(plus, minus, start, index, factor, out)\n--\n\n"
     "out[index[i]] = (plus[start + i] - minus[start + i]) * factor; minus None: nothing is taken off."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_core", "C parts of crosswind.solvers.", 0, methods,
                                        NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__core(void) {
    PyObject *module = PyModule_Create(&definition);
    if (module == NULL) return NULL;
    PyObject *type = PyType_FromSpec(&check_spec);
    if (type == NULL || PyModule_AddFunctions(module, cw_schedule_methods) < 0 ||
        PyModule_AddObjectRef(module, "Check", type) < 0 || cw_mpc_add(module) < 0) {
        Py_XDECREF(type);
        Py_DECREF(module);
        return NULL;
    }
    Py_DECREF(type);
    return module;
}
