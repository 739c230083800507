/* A library with ViALUX's ALP entry points and no device behind them, for tests.
 * Arguments and numbers as the open wrapper ALP4lib 1.1.0 has them. What would be shown goes to a callback. */
#include <stdlib.h>
#include <string.h>

#define SEQUENCES 4
static struct { long width, height, serial; int gone, allocated, running; } device = {0, 0, 0, 1, 0, 0};
static struct { int used, loaded, timed; unsigned char *pixels; } sequence[SEQUENCES + 1];
static void (*on_start)(const unsigned char *), (*on_state)(void);

void stub_device(long width, long height, long serial, void (*start)(const unsigned char *), void (*state)(void)) {
    device.width = width, device.height = height, device.serial = serial, device.gone = 0;
    on_start = start, on_state = state;
}
void stub_unplug(void) { device.gone = 1; }
long stub_sequences(void) {
    long count = 0;
    for (int i = 1; i <= SEQUENCES; i++) count += sequence[i].used;
    return count;
}

static long check(unsigned long id) { return device.gone ? 1012 : id != 1 || !device.allocated ? 1003 : 0; }
static long check_seq(unsigned long id, unsigned long seq) {
    long code = check(id);
    return code ? code : seq < 1 || seq > SEQUENCES || !sequence[seq].used ? 1005 : 0;
}

long AlpDevAlloc(long number, long flag, unsigned long *id) {
    if (device.gone || (number && number != device.serial)) return 1001;
    if (device.allocated) return 1004;
    if ((int)flag) return 1005; /* ALP4lib passes plain numbers as int */
    device.allocated = 1, *id = 1;
    return 0;
}
long AlpDevInquire(unsigned long id, long what, long *value) {
    long code = check(id);
    if (code) return code;
    switch ((int)what) {
    case 2000: *value = device.serial; return 0;
    case 2001: *value = 0x43; return 0;
    case 2002: if (on_state) on_state(); *value = 0; return 0;
    case 2021: *value = 255; return 0; /* mirrors of no known type */
    case 2057: *value = device.height; return 0;
    case 2058: *value = device.width; return 0;
    }
    return 1005;
}
long AlpDevHalt(unsigned long id) {
    long code = check(id);
    if (!code) device.running = 0;
    return code;
}
long AlpDevFree(unsigned long id) {
    device.allocated = 0;
    for (int i = 1; i <= SEQUENCES; i++) free(sequence[i].pixels), memset(&sequence[i], 0, sizeof sequence[i]);
    return device.gone ? 1012 : device.running ? 1002 : id != 1 ? 1003 : 0;
}
long AlpSeqAlloc(unsigned long id, long bits, long pictures, unsigned long *seq) {
    long code = check(id);
    if (code) return code;
    if (bits != 1 || pictures != 1) return 1005;
    for (int i = 1; i <= SEQUENCES; i++)
        if (!sequence[i].used) {
            sequence[i].used = 1, sequence[i].pixels = calloc(device.width, device.height), *seq = i;
            return 0;
        }
    return 1007;
}
long AlpSeqControl(unsigned long id, unsigned long seq, long what, long value) {
    long code = check_seq(id, seq);
    return code ? code : (int)what != 2104 || (value != 2105 && value != 2106) ? 1005 : 0;
}
long AlpSeqTiming(unsigned long id, unsigned long seq, long light, long picture, long delay, long pulse, long trigger) {
    long code = check_seq(id, seq);
    if (code) return code;
    if (light > picture || picture < 0 || picture > 10000000 || delay < 0 || pulse < 0 || trigger < 0) return 1005;
    sequence[seq].timed = 1;
    return 0;
}
long AlpSeqPut(unsigned long id, unsigned long seq, long offset, long load, const void *data) {
    long code = check_seq(id, seq);
    if (code) return code;
    if (offset || load) return 1005;
    if (device.running == (int)seq) return 1008;
    memcpy(sequence[seq].pixels, data, device.width * device.height), sequence[seq].loaded = 1;
    return 0;
}
long AlpSeqFree(unsigned long id, unsigned long seq) {
    long code = check_seq(id, seq);
    if (code) return code;
    if (device.running == (int)seq) return 1008;
    free(sequence[seq].pixels), memset(&sequence[seq], 0, sizeof sequence[seq]);
    return 0;
}
long AlpProjStartCont(unsigned long id, unsigned long seq) {
    long code = check_seq(id, seq);
    if (code) return code;
    if (!sequence[seq].loaded || !sequence[seq].timed) return 1005;
    device.running = seq;
    if (on_start) on_start(sequence[seq].pixels);
    return 0;
}
