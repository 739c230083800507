/* CRC-32 as zlib's. */
#ifndef CRC_H
#define CRC_H
#include <stddef.h>
#include <stdint.h>

uint32_t crc32(const void *data, size_t n, uint32_t before); /* before: of what came first; 0 at the start */
#endif
