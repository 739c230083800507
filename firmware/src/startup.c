/* Start of a Cortex-M3 without a C library: vectors, memory, then main. */
#include <stddef.h>
#include <stdint.h>

extern uint32_t data_begin[], data_end[], data_stored[], bss_begin[], bss_end[], stack_top[];
int main(void);
void uart_received(void);
void reset(void);

/* The compiler calls these three by name. */
void *memcpy(void *to, const void *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)to)[i] = ((const uint8_t *)from)[i];
    return to;
}

void *memset(void *to, int value, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ((uint8_t *)to)[i] = (uint8_t)value;
    return to;
}

int memcmp(const void *one, const void *other, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int off = ((const uint8_t *)one)[i] - ((const uint8_t *)other)[i];
        if (off)
            return off;
    }
    return 0;
}

static void halt(void) /* a fault: stay still, so that the host's next question finds nobody */
{
    for (;;)
        __asm__ volatile("wfi");
}

void reset(void)
{
    size_t data = (size_t)(data_end - data_begin), bss = (size_t)(bss_end - bss_begin);
    for (size_t i = 0; i < data; i++)
        data_begin[i] = data_stored[i];
    for (size_t i = 0; i < bss; i++)
        bss_begin[i] = 0;
    main();
    halt();
}

/* 16 of the core, then interrupt 0: UART 0 received a byte. */
__attribute__((section(".vectors"), used)) static void (*const vectors[17])(void) = {
    (void (*)(void))stack_top, reset, halt, halt, halt, halt, halt, 0, 0, 0, 0, halt, halt, 0, halt, halt,
    uart_received,
};
