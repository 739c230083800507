/* What the board is and does: a memory of segments, a queue, counters. No bytes of the line here. */
#ifndef BOARD_H
#define BOARD_H
#include <stddef.h>
#include <stdint.h>

enum refusal { DONE = 0, PROTOCOL = 1, VERSION = 2, SESSION = 3, VALUE = 4, STATE = 5, BUSY = 10, INTEGRITY = 11 };

struct refused {
    enum refusal code;
    const char *text;
};

struct held {
    uint32_t crc, n_bytes;
    uint64_t duration_ns;
};

uint32_t board_serial(void);
void board_clear(void); /* safe state: couplings and injections off, nothing loaded */
int board_segments(void);
uint64_t board_clock_ns(void); /* of the sequencer: what its work took so far */

size_t board_image_bytes(int segments);
struct refused board_load(uint8_t *block, size_t size, int segments, uint32_t topology, struct held *held);
size_t board_recall(uint8_t *block); /* the image that is held, as a block: its bytes */
struct refused board_run(uint8_t *queue, size_t size, uint8_t *result, size_t *bytes, void (*between)(void));
struct refused board_count(const uint8_t *gate, size_t size, uint8_t *result, size_t *bytes);

#define IMAGE_ROOM 16384u
#define QUEUE_ROOM 16384u
#define RESULT_ROOM 262144u
#endif
