/* UART 0 of the mps2 boards (CMSDK APB UART), received by interrupt into a ring. */
#ifndef UART_H
#define UART_H
#include <stdint.h>

void uart_start(void);
int uart_take(void);        /* the next byte, or -1 */
int uart_waiting(void);     /* whether a byte is there */
void uart_sleep(void);      /* until a byte is there */
void uart_put(uint8_t byte);
#endif
