/* Frames on the line: zero | COBS(version, kind, session, sequence, payload, CRC-32) | zero. */
#ifndef FRAME_H
#define FRAME_H
#include <stddef.h>
#include <stdint.h>

#define MAX_PAYLOAD (4096 + 5) /* a Write of 4 KiB */

struct frame {
    uint8_t version, kind;
    uint16_t session;
    uint32_t sequence;
    size_t size; /* of the payload */
    const uint8_t *payload;
};

extern uint32_t frames_accepted, frames_rejected;

int frame_take(struct frame *got); /* 1 with the next whole frame, valid until the next call; else 0 */
void frame_send(const struct frame *answer);
#endif
