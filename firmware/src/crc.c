#include "crc.h"

static uint32_t table[256];

uint32_t crc32(const void *data, size_t n, uint32_t before)
{
    const uint8_t *bytes = data;
    if (!table[1])
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t word = i;
            for (int bit = 0; bit < 8; bit++)
                word = word & 1 ? (word >> 1) ^ 0xEDB88320u : word >> 1;
            table[i] = word;
        }
    uint32_t crc = ~before;
    for (size_t i = 0; i < n; i++)
        crc = (crc >> 8) ^ table[(crc ^ bytes[i]) & 0xFF];
    return ~crc;
}
