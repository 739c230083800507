/* Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11). */
#ifndef PHILOX_H
#define PHILOX_H
#include <stdint.h>

void philox(uint32_t counter[4], uint32_t key0, uint32_t key1); /* counter becomes four random words */
#endif
