#include "law.h"

#define STEPS_BETWEEN 128 /* steps after which `between` is called */
#define QUARTER 0x40000000u

static int32_t sine[OSCILLATORS], cosine[OSCILLATORS], slope[OSCILLATORS];
static int64_t trial[OSCILLATORS], total[OSCILLATORS];

static int32_t sine_of(uint32_t turn)
{
    uint32_t at = turn >> 20;
    int32_t low = SINES[at], rise = SINES[at + 1] - low;
    return low + (int32_t)((int64_t)rise * (int32_t)(turn & 0xFFFFFu) >> 20);
}

/* dtheta/dt at theta. sin(theta_j - theta_i) = s_j c_i - c_j s_i: no sine on every edge. */
static void rates(const struct law *law, const int64_t *theta)
{
    for (int i = 0; i < OSCILLATORS; i++) {
        sine[i] = sine_of((uint32_t)theta[i]);
        cosine[i] = sine_of((uint32_t)theta[i] + QUARTER);
    }
    for (int i = 0; i < OSCILLATORS; i++) {
        int64_t of_sines = 0, of_cosines = 0;
        for (int e = ROW_START[i]; e < ROW_START[i + 1]; e++) {
            of_sines += (int64_t)law->coupling[e] * sine[SOURCE[e]];
            of_cosines += (int64_t)law->coupling[e] * cosine[SOURCE[e]];
        }
        int64_t along = (of_sines >> 30) + law->in_phase[i];
        int64_t across = (of_cosines >> 30) + law->quadrature[i] + ((int64_t)law->second[i] * cosine[i] >> 29);
        slope[i] = (int32_t)((along * cosine[i] - across * sine[i]) >> 30) + law->detuning[i];
    }
}

static uint32_t magnitude(int32_t value)
{
    return value < 0 ? (uint32_t)-value : (uint32_t)value;
}

/* No phase turns faster, in units with 24 fraction bits. */
static uint32_t bound(const struct law *law)
{
    uint32_t most = 0;
    for (int i = 0; i < OSCILLATORS; i++) {
        uint32_t pull = magnitude(law->in_phase[i]) + magnitude(law->quadrature[i]) +
                        2 * magnitude(law->second[i]) + magnitude(law->detuning[i]);
        for (int e = ROW_START[i]; e < ROW_START[i + 1]; e++)
            pull += magnitude(law->coupling[e]);
        if (pull > most)
            most = pull;
    }
    return most;
}

void law_advance(const struct law *law, int64_t theta[OSCILLATORS], uint32_t ticks, void (*between)(void))
{
    if (!ticks)
        return;
    uint32_t each = (uint32_t)(((uint64_t)bound(law) * 20 / 7 >> 24) + 1); /* steps a unit: rate / 0.35 */
    if (each < 10)
        each = 10;
    uint64_t units = (uint64_t)ticks * UNITS_PER_TICK_Q32;
    uint32_t steps = (uint32_t)((units >> 16) * each >> 16) + 1;
    uint32_t length = (uint32_t)((uint64_t)ticks * TURNS_PER_TICK_Q52 / steps >> 16);
    for (uint32_t step = 0; step < steps; step++) {
        for (int stage = 0; stage < 4; stage++) {
            rates(law, stage ? trial : theta);
            for (int i = 0; i < OSCILLATORS; i++) {
                int64_t change = (int64_t)slope[i] * length >> 28;
                total[i] = (stage ? total[i] : 0) + (stage == 1 || stage == 2 ? 2 * change : change);
                trial[i] = theta[i] + (stage == 2 ? change : change >> 1);
            }
        }
        for (int i = 0; i < OSCILLATORS; i++)
            theta[i] += (total[i] + 3) / 6;
        if (step % STEPS_BETWEEN == STEPS_BETWEEN - 1)
            between();
    }
}

int32_t law_fastest(const struct law *law, const int64_t theta[OSCILLATORS])
{
    rates(law, theta);
    uint32_t most = 0;
    for (int i = 0; i < OSCILLATORS; i++)
        if (magnitude(slope[i]) > most)
            most = magnitude(slope[i]);
    return (int32_t)most;
}
