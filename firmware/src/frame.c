#include "frame.h"

#include "crc.h"
#include "uart.h"

#define HEADER 8
#define CRC 4
#define MAX_BODY (HEADER + MAX_PAYLOAD + CRC)
#define MAX_ENCODED (MAX_BODY + MAX_BODY / 254 + 2)

uint32_t frames_accepted, frames_rejected;
static uint8_t encoded[MAX_ENCODED], body[MAX_ENCODED], sent[MAX_BODY];
static size_t held;
static int too_long;

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] | at[1] << 8); }

static uint32_t get32(const uint8_t *at) { return get16(at) | (uint32_t)get16(at + 2) << 16; }

/* Bytes of the body, or 0 where a run is cut off. */
static size_t cobs_decode(const uint8_t *from, size_t n, uint8_t *to)
{
    size_t at = 0, out = 0;
    while (at < n) {
        uint8_t code = from[at++];
        if (at + code - 1 > n)
            return 0;
        for (int i = 1; i < code; i++)
            to[out++] = from[at++];
        if (code < 255 && at < n)
            to[out++] = 0;
    }
    return out;
}

static int decoded(struct frame *got)
{
    size_t n = cobs_decode(encoded, held, body);
    if (n < HEADER + CRC || n > MAX_BODY || crc32(body, n - CRC, 0) != get32(body + n - CRC))
        return 0;
    got->version = body[0];
    got->kind = body[1];
    got->session = get16(body + 2);
    got->sequence = get32(body + 4);
    got->payload = body + HEADER;
    got->size = n - HEADER - CRC;
    return 1;
}

int frame_take(struct frame *got)
{
    int byte;
    while ((byte = uart_take()) >= 0) {
        if (byte) {
            if (held < MAX_ENCODED)
                encoded[held++] = (uint8_t)byte;
            else
                too_long = 1;
            continue;
        }
        int whole = held && !too_long && decoded(got);
        if (held && !whole)
            frames_rejected++;
        held = 0;
        too_long = 0;
        if (whole) {
            frames_accepted++;
            return 1;
        }
    }
    return 0;
}

static void put32(uint8_t *to, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(value >> 8 * i);
}

void frame_send(const struct frame *answer)
{
    size_t n = HEADER + answer->size;
    sent[0] = answer->version;
    sent[1] = answer->kind;
    sent[2] = (uint8_t)answer->session;
    sent[3] = (uint8_t)(answer->session >> 8);
    put32(sent + 4, answer->sequence);
    for (size_t i = 0; i < answer->size; i++)
        sent[HEADER + i] = answer->payload[i];
    put32(sent + n, crc32(sent, n, 0));
    n += CRC;

    uart_put(0);
    size_t at = 0;
    int more = 1; /* a run that ends at a zero, or at the end, has its code */
    while (more) {
        size_t run = 0;
        while (run < 254 && at + run < n && sent[at + run])
            run++;
        uart_put((uint8_t)(run + 1));
        for (size_t i = 0; i < run; i++)
            uart_put(sent[at + i]);
        at += run;
        if (run == 254)
            more = at < n;
        else {
            more = at < n; /* a zero stands here: it is what the code says */
            at++;
        }
    }
    uart_put(0);
}
