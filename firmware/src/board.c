#include "board.h"

#include "bits.h"
#include "board_tables.h"
#include "crc.h"
#include "law.h"
#include "philox.h"

struct image {
    int segments;
    int8_t coupling[DEPTH][EDGES];
    uint16_t scale[DEPTH];
    int16_t in_phase[DEPTH][OSCILLATORS], quadrature[DEPTH][OSCILLATORS];
    int16_t second[DEPTH][OSCILLATORS], detuning[DEPTH][OSCILLATORS];
    uint32_t ticks[DEPTH];
    uint16_t start_phase[OSCILLATORS], start_amplitude[OSCILLATORS];
};

/* Shadow segments: the image as codes, and what its codes stand for. */
static struct image incoming, shadow;
static int32_t coupling_q24[DEPTH][EDGES];
static int32_t second_q24[DEPTH][OSCILLATORS], detuning_q24[DEPTH][OSCILLATORS];
static int32_t in_phase_q24[DEPTH][OSCILLATORS], quadrature_q24[DEPTH][OSCILLATORS];

__attribute__((section(".fuses.serial"), used)) static volatile uint32_t serial;
__attribute__((section(".fuses.clock"), used)) static volatile uint64_t clock_ns;

static const struct refused FINE = {DONE, ""};

static struct refused refused(enum refusal code, const char *text)
{
    struct refused it = {code, text};
    return it;
}

uint32_t board_serial(void) { return serial; }

void board_clear(void) { shadow.segments = 0; }

int board_segments(void) { return shadow.segments; }

uint64_t board_clock_ns(void) { return clock_ns; }

/* Nearest units, 24 fraction bits, of a code over +-range. */
static int32_t units_q24(int32_t code, int32_t range_units, int32_t max_code)
{
    int64_t twice = 2 * (((int64_t)code * range_units) << 24);
    return (int32_t)((twice + (code < 0 ? -max_code : max_code)) / (2 * max_code));
}

/* Load and recall */

size_t board_image_bytes(int segments)
{
    uint32_t segment = EDGES * COUPLING_BITS + OSCILLATORS * (2 * INJECTION_BITS + SECOND_BITS + DETUNING_BITS);
    uint32_t all = (uint32_t)segments * (segment + SCALE_BITS + 32) + OSCILLATORS * (START_BITS + AMPLITUDE_BITS);
    return (all + 7) / 8;
}

static int read_signed(struct bits *from, int16_t *to, int count, int bits)
{
    int32_t top = (1 << (bits - 1)) - 1;
    for (int i = 0; i < count; i++) {
        int32_t code = bits_get_signed(from, bits);
        if (code < -top)
            return 0;
        to[i] = (int16_t)code;
    }
    return 1;
}

static struct refused read_image(struct bits *from, struct image *to)
{
    int k = to->segments;
    for (int s = 0; s < k; s++)
        for (int e = 0; e < EDGES; e++) {
            int32_t code = bits_get_signed(from, COUPLING_BITS);
            if (code < -MAX_COUPLING_CODE)
                return refused(VALUE, "coupling is below the lowest code");
            to->coupling[s][e] = (int8_t)code;
        }
    if (!read_signed(from, to->in_phase[0], k * OSCILLATORS, INJECTION_BITS) ||
        !read_signed(from, to->quadrature[0], k * OSCILLATORS, INJECTION_BITS) ||
        !read_signed(from, to->second[0], k * OSCILLATORS, SECOND_BITS) ||
        !read_signed(from, to->detuning[0], k * OSCILLATORS, DETUNING_BITS))
        return refused(VALUE, "a table of the oscillators is below its lowest code");
    for (int s = 0; s < k; s++)
        to->scale[s] = (uint16_t)bits_get(from, SCALE_BITS);
    for (int s = 0; s < k; s++) {
        to->ticks[s] = bits_get(from, 32);
        if (to->ticks[s] < 1 || to->ticks[s] > MAX_TICKS)
            return refused(VALUE, "ticks is out of range");
    }
    for (int i = 0; i < OSCILLATORS; i++)
        to->start_phase[i] = (uint16_t)bits_get(from, START_BITS);
    for (int i = 0; i < OSCILLATORS; i++)
        to->start_amplitude[i] = (uint16_t)bits_get(from, AMPLITUDE_BITS);
    return FINE;
}

static void work_out(void)
{
    for (int s = 0; s < shadow.segments; s++) {
        for (int e = 0; e < EDGES; e++) {
            int32_t product = (int32_t)shadow.scale[s] * shadow.coupling[s][e];
            coupling_q24[s][e] = units_q24(product, MAX_SCALE_UNITS, MAX_SCALE_CODE * MAX_COUPLING_CODE);
        }
        for (int i = 0; i < OSCILLATORS; i++) {
            in_phase_q24[s][i] = units_q24(shadow.in_phase[s][i], INJECTION_UNITS, MAX_INJECTION_CODE);
            quadrature_q24[s][i] = units_q24(shadow.quadrature[s][i], INJECTION_UNITS, MAX_INJECTION_CODE);
            second_q24[s][i] = units_q24(shadow.second[s][i], SECOND_UNITS, MAX_SECOND_CODE);
            detuning_q24[s][i] = units_q24(shadow.detuning[s][i], DETUNING_UNITS, MAX_DETUNING_CODE);
        }
    }
}

/* CRC-32 as the host defines it for an image: each table after its name and shape, as big-endian words. */
static uint32_t named(uint32_t crc, const char *name, uint32_t rows, uint32_t columns)
{
    uint8_t shape[8];
    size_t n = 0, dimensions = 0;
    while (name[n])
        n++;
    crc = crc32(name, n, crc);
    for (int d = 0; d < 2; d++) {
        uint32_t size = d ? columns : rows;
        if (!size)
            continue;
        for (int i = 0; i < 4; i++)
            shape[4 * dimensions + (size_t)i] = (uint8_t)(size >> (24 - 8 * i));
        dimensions++;
    }
    return crc32(shape, 4 * dimensions, crc);
}

static uint32_t word(uint32_t crc, int32_t value)
{
    uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    return crc32(bytes, 4, crc);
}

static uint32_t table_crc(uint32_t crc, const char *name, const int16_t *codes, uint32_t rows)
{
    crc = named(crc, name, rows, OSCILLATORS);
    for (uint32_t i = 0; i < rows * OSCILLATORS; i++)
        crc = word(crc, codes[i]);
    return crc;
}

static uint32_t image_crc(void)
{
    uint32_t k = (uint32_t)shadow.segments, crc = crc32(TOPOLOGY_HASH, 64, 0);
    crc = named(crc, "coupling", k, EDGES);
    for (uint32_t s = 0; s < k; s++)
        for (uint32_t e = 0; e < EDGES; e++)
            crc = word(crc, shadow.coupling[s][e]);
    crc = named(crc, "scale", k, 0);
    for (uint32_t s = 0; s < k; s++)
        crc = word(crc, shadow.scale[s]);
    crc = table_crc(crc, "in_phase", shadow.in_phase[0], k);
    crc = table_crc(crc, "quadrature", shadow.quadrature[0], k);
    crc = table_crc(crc, "second", shadow.second[0], k);
    crc = table_crc(crc, "detuning", shadow.detuning[0], k);
    crc = named(crc, "ticks", k, 0);
    for (uint32_t s = 0; s < k; s++)
        crc = word(crc, (int32_t)shadow.ticks[s]);
    crc = named(crc, "start_phase", OSCILLATORS, 0);
    for (uint32_t i = 0; i < OSCILLATORS; i++)
        crc = word(crc, shadow.start_phase[i]);
    crc = named(crc, "start_amplitude", OSCILLATORS, 0);
    for (uint32_t i = 0; i < OSCILLATORS; i++)
        crc = word(crc, shadow.start_amplitude[i]);
    return crc;
}

struct refused board_load(uint8_t *block, size_t size, int segments, uint32_t topology, struct held *held)
{
    if (topology != TOPOLOGY)
        return refused(VALUE, "the program is wired for another topology");
    if (segments < 1 || segments > DEPTH)
        return refused(VALUE, "more segments than the memory holds, or none");
    if (size != board_image_bytes(segments))
        return refused(PROTOCOL, "the image has another size than so many segments have");
    struct bits from = {block, 0};
    incoming.segments = segments;
    struct refused read = read_image(&from, &incoming);
    if (read.code)
        return read; /* the shadow memory still holds what it held */
    shadow = incoming;
    work_out();
    held->crc = image_crc();
    held->n_bytes = (uint32_t)size;
    held->duration_ns = LOAD_NS + LOAD_NS_PER_BYTE * (uint64_t)size;
    clock_ns += held->duration_ns;
    return FINE;
}

static void write_codes(struct bits *to, const int16_t *codes, int count, int bits)
{
    for (int i = 0; i < count; i++)
        bits_put(to, (uint32_t)codes[i], bits);
}

size_t board_recall(uint8_t *block)
{
    int k = shadow.segments;
    size_t size = board_image_bytes(k);
    for (size_t i = 0; i < size; i++)
        block[i] = 0;
    struct bits to = {block, 0};
    for (int s = 0; s < k; s++)
        for (int e = 0; e < EDGES; e++)
            bits_put(&to, (uint32_t)shadow.coupling[s][e], COUPLING_BITS);
    write_codes(&to, shadow.in_phase[0], k * OSCILLATORS, INJECTION_BITS);
    write_codes(&to, shadow.quadrature[0], k * OSCILLATORS, INJECTION_BITS);
    write_codes(&to, shadow.second[0], k * OSCILLATORS, SECOND_BITS);
    write_codes(&to, shadow.detuning[0], k * OSCILLATORS, DETUNING_BITS);
    for (int s = 0; s < k; s++)
        bits_put(&to, shadow.scale[s], SCALE_BITS);
    for (int s = 0; s < k; s++)
        bits_put(&to, shadow.ticks[s], 32);
    write_codes(&to, (const int16_t *)shadow.start_phase, OSCILLATORS, START_BITS);
    write_codes(&to, (const int16_t *)shadow.start_amplitude, OSCILLATORS, AMPLITUDE_BITS);
    return size;
}

/* Run */

static uint64_t get(const uint8_t *at, int bytes)
{
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint64_t)at[i] << 8 * i;
    return value;
}

static void put(uint8_t *to, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t as_bits(double value)
{
    union {
        double value;
        uint64_t bits;
    } both = {value};
    return both.bits;
}

static double as_double(uint64_t bits)
{
    union {
        uint64_t bits;
        double value;
    } both = {bits};
    return both.value;
}

struct queue {
    uint32_t samples, step, played, reads, flags;
    uint64_t end; /* ticks */
    uint8_t *sample_id;
    uint16_t play[DEPTH];
    uint64_t read_at[MAX_READS];
    struct bits in_phase, quadrature, start;
};
#define ANCHORS 1u
#define STARTS 2u
#define QUEUE_HEAD 17u
#define RESULT_HEAD 24u

static struct queue queue;
static struct law law;
static int64_t theta[OSCILLATORS], begun[OSCILLATORS];
static int16_t anchor[2][OSCILLATORS];

static struct refused read_queue(uint8_t *block, size_t size)
{
    struct queue *q = &queue;
    if (size < QUEUE_HEAD)
        return refused(PROTOCOL, "the queue ends too early");
    q->samples = (uint32_t)get(block, 4);
    q->step = (uint32_t)get(block + 4, 4);
    q->played = (uint32_t)get(block + 8, 4);
    q->reads = (uint32_t)get(block + 12, 4);
    q->flags = block[16];
    if (q->samples < 1 || q->samples > MAX_QUEUE || q->played < 1 || q->played > DEPTH || q->reads < 1 ||
        q->reads > MAX_READS || q->flags > (ANCHORS | STARTS))
        return refused(VALUE, "samples, segments played, reads or flags are out of range");
    uint32_t nodes = q->samples * OSCILLATORS;
    uint32_t code_bits = (q->flags & ANCHORS ? 2 * INJECTION_BITS : 0) + (q->flags & STARTS ? START_BITS : 0);
    size_t lists = 2 * q->played + 8 * q->reads + 4 * q->samples;
    if (size != QUEUE_HEAD + lists + (nodes * code_bits + 7) / 8)
        return refused(PROTOCOL, "the queue has another size than its head says");
    uint8_t *at = block + QUEUE_HEAD;
    q->end = 0;
    for (uint32_t s = 0; s < q->played; s++, at += 2) {
        q->play[s] = (uint16_t)get(at, 2);
        if (q->play[s] >= shadow.segments)
            return refused(VALUE, "play names a segment that is not loaded");
        q->end += shadow.ticks[q->play[s]];
    }
    for (uint32_t t = 0; t < q->reads; t++, at += 8) {
        q->read_at[t] = get(at, 8);
        if (q->read_at[t] > q->end || (t && q->read_at[t] <= q->read_at[t - 1]))
            return refused(VALUE, "read times do not ascend, or lie behind the end");
    }
    q->sample_id = at;
    at += 4 * q->samples;
    struct bits in_phase = {at, 0}, quadrature = {at, nodes * INJECTION_BITS};
    struct bits start = {at, q->flags & ANCHORS ? 2 * nodes * INJECTION_BITS : 0};
    q->in_phase = in_phase;
    q->quadrature = quadrature;
    q->start = start;
    return FINE;
}

/* About a standard normal, 16 fraction bits: twelve uniform numbers less their mean (nothing beyond 6). */
static int32_t normal_q16(uint32_t sample, uint32_t step, uint32_t oscillator)
{
    int32_t sum = -393210; /* 12 times 65535 / 2 */
    for (uint32_t block = 0; block < 2; block++) {
        uint32_t words[4] = {sample, step, oscillator, block};
        philox(words, serial, 0x6F736369u);
        for (int i = 0; i < (block ? 2 : 4); i++)
            sum += (int32_t)(words[i] & 0xFFFF) + (int32_t)(words[i] >> 16);
    }
    return sum;
}

static void seed_phases(uint32_t sample)
{
    for (uint32_t i = 0; i < OSCILLATORS; i++) {
        if (queue.flags & STARTS)
            theta[i] = (int64_t)bits_get(&queue.start, START_BITS) << (32 - START_BITS);
        else {
            int64_t half_turns = ((int64_t)shadow.start_amplitude[i] << 31) / MAX_AMPLITUDE_CODE; /* Q32 turns */
            theta[i] = (int64_t)shadow.start_phase[i] << (32 - START_BITS);
            theta[i] += half_turns * normal_q16(sample, queue.step, i) >> 16;
        }
        begun[i] = theta[i];
    }
}

static void use_segment(uint16_t s)
{
    law.coupling = coupling_q24[s];
    law.second = second_q24[s];
    law.detuning = detuning_q24[s];
    for (int i = 0; i < OSCILLATORS; i++) {
        law.in_phase[i] = in_phase_q24[s][i];
        law.quadrature[i] = quadrature_q24[s][i];
        if (queue.flags & ANCHORS) {
            law.in_phase[i] += units_q24(anchor[0][i], INJECTION_UNITS, MAX_INJECTION_CODE);
            law.quadrature[i] += units_q24(anchor[1][i], INJECTION_UNITS, MAX_INJECTION_CODE);
        }
    }
}

static int anchors_fit(void)
{
    for (uint32_t s = 0; s < queue.played; s++)
        for (int i = 0; i < OSCILLATORS; i++) {
            int a = anchor[0][i] + shadow.in_phase[queue.play[s]][i];
            int b = anchor[1][i] + shadow.quadrature[queue.play[s]][i];
            if (a > MAX_INJECTION_CODE || a < -MAX_INJECTION_CODE || b > MAX_INJECTION_CODE ||
                b < -MAX_INJECTION_CODE)
                return 0;
        }
    return 1;
}

/* One sample from its release to its last read; its codes go to `out`. */
static void play_sample(struct bits *out, void (*between)(void))
{
    uint64_t now = 0;
    uint32_t t = 0;
    for (uint32_t s = 0; s < queue.played; s++) {
        uint64_t end = now + shadow.ticks[queue.play[s]];
        use_segment(queue.play[s]);
        while (now < end || (s + 1 == queue.played && t < queue.reads)) {
            int reads = t < queue.reads && (queue.read_at[t] < end || s + 1 == queue.played);
            uint64_t until = reads ? queue.read_at[t] : end;
            law_advance(&law, theta, (uint32_t)(until - now), between);
            now = until;
            if (reads) {
                for (int i = 0; i < OSCILLATORS; i++) {
                    uint32_t half_step = 1u << (31 - READ_BITS);
                    bits_put(out, ((uint32_t)theta[i] + half_step) >> (32 - READ_BITS), READ_BITS);
                }
                t++;
            }
        }
    }
}

struct refused board_run(uint8_t *block, size_t size, uint8_t *result, size_t *bytes, void (*between)(void))
{
    if (!shadow.segments)
        return refused(STATE, "no program is loaded");
    struct refused read = read_queue(block, size);
    if (read.code)
        return read;
    uint32_t flag_bits = queue.samples * queue.reads * OSCILLATORS * READ_BITS;
    *bytes = RESULT_HEAD + 8 * queue.reads + (flag_bits + 2 * queue.samples + 7) / 8;
    for (size_t i = 0; i < *bytes; i++)
        result[i] = 0;
    put(result, queue.samples, 4);
    put(result + 4, queue.reads, 4);
    put(result + 8, queue.end, 8);
    put(result + 16, as_bits(TEMPERATURE_C), 8);
    for (uint32_t t = 0; t < queue.reads; t++)
        put(result + RESULT_HEAD + 8 * t, queue.read_at[t], 8);
    struct bits codes = {result + RESULT_HEAD + 8 * queue.reads, 0};
    for (uint32_t sample = 0; sample < queue.samples; sample++) {
        for (int i = 0; i < OSCILLATORS && queue.flags & ANCHORS; i++) {
            anchor[0][i] = (int16_t)bits_get_signed(&queue.in_phase, INJECTION_BITS);
            anchor[1][i] = (int16_t)bits_get_signed(&queue.quadrature, INJECTION_BITS);
        }
        if (queue.flags & ANCHORS && !anchors_fit())
            return refused(VALUE, "an anchor and the program's injection add up to more than the converter has");
        seed_phases((uint32_t)get(queue.sample_id + 4 * sample, 4));
        play_sample(&codes, between);
        int locked = law_fastest(&law, theta) <= LOCK_LIMIT_Q24, overflow = 0;
        for (int i = 0; i < OSCILLATORS; i++) {
            int64_t moved = theta[i] - begun[i];
            if (moved > ((int64_t)MAX_TURNS << 32) || moved < -((int64_t)MAX_TURNS << 32))
                overflow = 1;
        }
        struct bits flag = {codes.data, flag_bits + sample};
        bits_put(&flag, (uint32_t)locked, 1);
        flag.at = flag_bits + queue.samples + sample;
        bits_put(&flag, (uint32_t)overflow, 1);
    }
    clock_ns += queue.samples * (SETUP_NS + queue.end * TICK_NS + READ_NS * (uint64_t)queue.reads);
    return FINE;
}

/* Frequency count */

struct refused board_count(const uint8_t *gate, size_t size, uint8_t *result, size_t *bytes)
{
    if (size != 8 + 4 * OSCILLATORS)
        return refused(PROTOCOL, "the order to count has another size");
    double gate_us = as_double(get(gate, 8));
    if (!(gate_us >= GATE_LOW_US && gate_us <= GATE_HIGH_US))
        return refused(VALUE, "the gate is out of range");
    uint32_t words[4] = {(uint32_t)clock_ns, (uint32_t)(clock_ns >> 32), 0, 0};
    philox(words, serial, 0x67617465u);
    double opened = words[0] / 4294967296.0; /* anywhere in a period */
    *bytes = 16 + 8 * OSCILLATORS;
    put(result, as_bits(gate_us), 8);
    put(result + 8, (uint64_t)(int64_t)(F0_HZ * gate_us * 1e-6 + opened), 8);
    for (int i = 0; i < OSCILLATORS; i++) {
        int32_t trim = (int32_t)get(gate + 8 + 4 * i, 4);
        if (trim > MAX_DETUNING_CODE || trim < -MAX_DETUNING_CODE)
            return refused(VALUE, "a trim code is out of range");
        double units = (double)trim * DETUNING_UNITS / MAX_DETUNING_CODE;
        put(result + 16 + 8 * i, (uint64_t)(int64_t)(F0_HZ * (1 + EPS * units) * gate_us * 1e-6 + opened), 8);
    }
    clock_ns += (uint64_t)(gate_us * 1e3);
    return FINE;
}
