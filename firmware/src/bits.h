/* Codes side by side without gaps, lowest bit first. */
#ifndef BITS_H
#define BITS_H
#include <stdint.h>

struct bits {
    uint8_t *data;
    uint32_t at; /* bit */
};

static inline uint32_t bits_get(struct bits *from, int count)
{
    uint32_t value = 0;
    for (int i = 0; i < count; i++, from->at++)
        value |= (uint32_t)(from->data[from->at >> 3] >> (from->at & 7) & 1) << i;
    return value;
}

static inline int32_t bits_get_signed(struct bits *from, int count)
{
    uint32_t sign = 1u << (count - 1);
    return (int32_t)((bits_get(from, count) ^ sign) - sign);
}

static inline void bits_put(struct bits *to, uint32_t value, int count) /* into zeroed memory */
{
    for (int i = 0; i < count; i++, to->at++)
        to->data[to->at >> 3] |= (uint8_t)((value >> i & 1) << (to->at & 7));
}
#endif
