#include "philox.h"

void philox(uint32_t counter[4], uint32_t key0, uint32_t key1)
{
    for (int round = 0; round < 10; round++) {
        uint64_t one = (uint64_t)0xD2511F53u * counter[0], other = (uint64_t)0xCD9E8D57u * counter[2];
        counter[0] = (uint32_t)(other >> 32) ^ counter[1] ^ key0;
        counter[1] = (uint32_t)other;
        counter[2] = (uint32_t)(one >> 32) ^ counter[3] ^ key1;
        counter[3] = (uint32_t)one;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}
