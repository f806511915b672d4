/* Which thread threading takes for an interpreter's main one. */
#ifndef ATOLL_PY_MAINTHREAD_H
#define ATOLL_PY_MAINTHREAD_H

/* Attached to a new interpreter, before threading is imported there. */
void atoll_main_thread_prepare(void);

#endif
