#include "uart.h"

#define UART0 ((volatile uint32_t *)0x40004000)
enum { DATA = 0, STATE = 1, CTRL = 2, INTERRUPTS = 3, BAUD_DIVIDER = 4 };
#define STATE_SEND_FULL 1u
#define STATE_RECEIVED 2u
#define CTRL_SEND 1u
#define CTRL_RECEIVE 2u
#define CTRL_RECEIVE_INTERRUPT 8u
#define INTERRUPT_RECEIVED 2u
#define NVIC_ENABLE (*(volatile uint32_t *)0xE000E100)
#define CLOCK_HZ 25000000u
#define BAUD 921600u
#define ROOM 16384u /* of the ring: several frames; a power of two */

static volatile uint8_t ring[ROOM];
static volatile uint32_t put_at, take_at;

void uart_start(void)
{
    UART0[BAUD_DIVIDER] = CLOCK_HZ / BAUD;
    UART0[CTRL] = CTRL_SEND | CTRL_RECEIVE | CTRL_RECEIVE_INTERRUPT;
    NVIC_ENABLE = 1u;
}

void uart_received(void)
{
    UART0[INTERRUPTS] = INTERRUPT_RECEIVED; /* first: a byte that comes from now on asks again */
    while (UART0[STATE] & STATE_RECEIVED) {
        uint8_t byte = (uint8_t)UART0[DATA];
        if (put_at - take_at < ROOM) { /* else it is lost, and the frame's CRC says so */
            ring[put_at % ROOM] = byte;
            put_at++;
        }
    }
}

int uart_waiting(void)
{
    return put_at != take_at;
}

int uart_take(void)
{
    if (put_at == take_at)
        return -1;
    uint8_t byte = ring[take_at % ROOM];
    take_at++;
    return byte;
}

void uart_sleep(void)
{
    __asm__ volatile("cpsid i"); /* else a byte could come between the look and the sleep */
    if (put_at == take_at)
        __asm__ volatile("wfi"); /* wakes with interrupts masked, too */
    __asm__ volatile("cpsie i");
}

void uart_put(uint8_t byte)
{
    while (UART0[STATE] & STATE_SEND_FULL)
        ;
    UART0[DATA] = byte;
}
