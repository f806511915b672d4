#include "dice.h"

#include "core/base/wait.h"

#include <sched.h>

_Thread_local uint64_t dice;

uint64_t roll(uint64_t below) {
    if (dice == 0) {
        dice = (uint64_t)(uintptr_t)&dice | 1;
    }
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % below;
}

void atoll_test_yield(void) {
    if (dice != 0 && roll(8) == 0) {
        sched_yield();
    }
}
