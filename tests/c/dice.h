/* Chance for the tests with threads. */
#ifndef ATOLL_TEST_DICE_H
#define ATOLL_TEST_DICE_H

#include <stdint.h>

/* The calling thread's; one that sets it gives up the processor now and then, wherever another thread could do most harm. */
extern _Thread_local uint64_t dice;

uint64_t roll(uint64_t below);

#endif
