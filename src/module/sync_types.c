/* The types of sync.c's objects, all together: adding them, and how they cross, which is as a handle. */
#include "module/sync.h"

static int sync_encode(atoll_encoder *enc, PyObject *self) {
    if (atoll_pysync_state(self) == NULL) {
        return -1;
    }
    atoll_sync *sync = atoll_pysync_of(self);
    atoll_message *msg = atoll_encoder_message(enc);
    atoll_sync_kind kind = atoll_sync_kind_of(sync);
    atoll_sync_retain(sync);
    atoll_put_u8(&msg->body, (uint8_t)kind);
    atoll_put_u32(&msg->body, atoll_message_attach(msg, &atoll_sync_class, sync));
    if (msg->body.failed) {
        PyErr_NoMemory();
        return -1;
    }
    return kind == ATOLL_SYNC_BARRIER ? atoll_pybarrier_encode(enc, self) : 0;
}

static PyObject *sync_decode(atoll_decoder *dec) {
    atoll_reader *rd = atoll_decoder_reader(dec);
    uint8_t kind = atoll_get_u8(rd);
    uint32_t index = atoll_get_u32(rd);
    atoll_state *state = atoll_state_of(PyInterpreterState_Get());
    atoll_sync *sync =
        rd->failed ? NULL : atoll_message_handle(atoll_decoder_message(dec), index, &atoll_sync_class);
    if (sync == NULL || state == NULL || atoll_sync_kind_of(sync) != kind) {
        PyErr_SetString(PyExc_ValueError, "malformed message: lock");
        return NULL;
    }
    PyObject *object = atoll_pysync_for(state, sync);
    if (object != NULL && kind == ATOLL_SYNC_BARRIER && atoll_pybarrier_decode(rd, object) < 0) {
        Py_CLEAR(object);
    }
    return object;
}

static const atoll_codec_hook sync_hook = {ATOLL_HOOK_SYNC, sync_encode, sync_decode};

/* ---- the types ---- */

int atoll_pysync_add(atoll_state *state, PyObject *module) {
    static PyType_Spec *const specs[ATOLL_SYNC_KINDS] = {
        [ATOLL_SYNC_LOCK] = &atoll_pylock_spec,
        [ATOLL_SYNC_RLOCK] = &atoll_pyrlock_spec,
        [ATOLL_SYNC_CONDITION] = &atoll_pycondition_spec,
        [ATOLL_SYNC_EVENT] = &atoll_pyevent_spec,
        [ATOLL_SYNC_SEMAPHORE] = &atoll_pysemaphore_spec,
        [ATOLL_SYNC_BOUNDED_SEMAPHORE] = &atoll_pysemaphore_bounded_spec,
        [ATOLL_SYNC_BARRIER] = &atoll_pybarrier_spec,
        [ATOLL_SYNC_ATOMIC] = &atoll_pyatomic_spec,
    };
    for (int i = 0; i < ATOLL_SYNC_KINDS; i++) {
        PyTypeObject *type = (PyTypeObject *)PyType_FromModuleAndSpec(module, specs[i], NULL);
        state->sync_types[i] = type;
        if (type == NULL || PyModule_AddType(module, type) < 0 ||
            atoll_codec_add_hook(state->codec, type, &sync_hook) < 0) {
            return -1;
        }
    }
    return 0;
}
