/* The oscillator law in fixed point.
 *
 *     dtheta_i/dt = w_i + sum_j K_ij sin(theta_j - theta_i) + a_i cos theta_i - b_i sin theta_i
 *                   - l_i sin 2 theta_i
 *
 * theta: turns, 32 fraction bits, 64 bits in all (whole turns are kept). Rates (K, a, b, l, w): units of the
 * board, 24 fraction bits. Sines: 30 fraction bits, 4096 table entries a turn and a straight line between.
 * A step's length: 2^-36 of a turn for each unit of rate. Runge-Kutta of fourth order; no rate times a step is
 * beyond 0.35, and a unit of time takes 10 steps or more.
 */
#ifndef LAW_H
#define LAW_H
#include <stdint.h>

#include "board_tables.h"

struct law {
    const int32_t *coupling;                         /* [EDGES] */
    int32_t in_phase[OSCILLATORS], quadrature[OSCILLATORS]; /* anchors included */
    const int32_t *second, *detuning;                /* [OSCILLATORS] */
};

void law_advance(const struct law *law, int64_t theta[OSCILLATORS], uint32_t ticks, void (*between)(void));
int32_t law_fastest(const struct law *law, const int64_t theta[OSCILLATORS]); /* largest |rate| */
#endif
