/* Requests in, answers out: docs/reference/oscillator-board-protocol.md. */
#include "board.h"
#include "board_tables.h"
#include "crc.h"
#include "frame.h"
#include "uart.h"

enum kind {
    HELLO = 0x01, OPEN = 0x02, CLOSE = 0x03, BEGIN = 0x04, WRITE = 0x05, READ = 0x06, LOAD = 0x07,
    RECALL = 0x08, RUN = 0x09, COUNT = 0x0A, TEMPERATURE = 0x0B, SNAPSHOT = 0x0C, STATUS = 0x0D,
    AT_WORK = 0x7E, ERROR = 0x7F, ANSWER = 0x80
};
enum region { SPEC = 0, IMAGE = 1, QUEUE = 2, RESULT = 3, REGIONS = 4 };

struct block {
    uint8_t *data;
    size_t room, here, total;
    uint32_t crc;
    int begun;
};

static uint8_t image[IMAGE_ROOM], queue[QUEUE_ROOM], result[RESULT_ROOM];
static struct block blocks[REGIONS] = {
    [SPEC] = {(uint8_t *)DATA_SHEET, 0, 0, 0, 0, 0},
    [IMAGE] = {image, sizeof image, 0, 0, 0, 0},
    [QUEUE] = {queue, sizeof queue, 0, 0, 0, 0},
    [RESULT] = {result, sizeof result, 0, 0, 0, 0},
};
static uint16_t session, ended; /* 0: none */
static int is_open;
static struct frame asked; /* the request being answered */
static uint8_t out[MAX_PAYLOAD], remembered[32]; /* payloads: of an answer; of the last order's answer */
static size_t out_size, remembered_size;
static uint16_t remembered_session;
static uint32_t remembered_sequence;
static int remembers;

/* Payloads */

static void add(uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++)
        out[out_size++] = (uint8_t)(value >> 8 * i);
}

static void add_text(const char *text)
{
    while (*text && out_size < MAX_PAYLOAD)
        out[out_size++] = (uint8_t)*text++;
}

static void add_number(uint64_t value)
{
    char digits[21];
    int at = 20;
    digits[at] = 0;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    add_text(digits + at);
}

static void add_double(double value)
{
    union {
        double value;
        uint64_t bits;
    } both = {value};
    add(both.bits, 8);
}

static uint32_t field(size_t at, int bytes)
{
    uint32_t value = 0;
    for (int i = 0; i < bytes; i++)
        value |= (uint32_t)asked.payload[at + (size_t)i] << 8 * i;
    return value;
}

static void send(uint8_t kind, const struct frame *to)
{
    struct frame answer = {to->version, kind, to->session, to->sequence, out_size, out};
    frame_send(&answer);
}

static void send_error(struct refused it, const struct frame *to)
{
    out_size = 0;
    add(it.code, 1);
    add_text(it.text);
    send(ERROR, to);
}

static void send_status(const struct frame *to, int busy)
{
    out_size = 0;
    add((uint64_t)busy, 1);
    add(frames_accepted, 4);
    add(frames_rejected, 4);
    send(STATUS | ANSWER, to);
}

/* While an order is being worked on: say so now and then, and to whoever asks. */
static void between(void)
{
    struct frame got, current = asked;
    out_size = 0;
    add(0, 8);
    send(AT_WORK, &current);
    while (frame_take(&got)) {
        if (got.kind == STATUS)
            send_status(&got, 1);
        else if (got.session != current.session || got.sequence != current.sequence) {
            struct refused it = {BUSY, "at work on another request"};
            send_error(it, &got);
        }
    }
    asked = current; /* its payload is gone: orders have none that is needed by now */
}

/* Blocks */

static void forget(void)
{
    for (int r = IMAGE; r < REGIONS; r++)
        blocks[r].begun = 0;
    remembers = 0;
}

static void offer(enum region region, size_t size)
{
    struct block *it = &blocks[region];
    it->total = it->here = size;
    it->crc = crc32(it->data, size, 0);
    it->begun = 1;
    add(size, 4);
    add(it->crc, 4);
}

static int whole(const struct block *it)
{
    return it->begun && it->here == it->total && crc32(it->data, it->total, 0) == it->crc;
}

static struct refused begin(void)
{
    struct refused fine = {DONE, ""}, value = {VALUE, "region or size is not allowed"};
    uint32_t region = field(0, 1), total = field(1, 4), crc = field(5, 4);
    if (region != IMAGE && region != QUEUE)
        return value;
    struct block *it = &blocks[region];
    if (total > it->room)
        return value;
    int other = !it->begun || it->total != total || it->crc != crc;
    if (other || (it->here == total && !whole(it))) {
        it->total = total;
        it->crc = crc;
        it->here = 0;
        it->begun = 1;
    }
    add(it->here, 4);
    return fine;
}

static struct refused write(void)
{
    struct refused fine = {DONE, ""}, none = {INTEGRITY, "no block was begun"};
    struct refused value = {VALUE, "bytes behind the end of the block"};
    uint32_t region = field(0, 1), offset = field(1, 4);
    size_t size = asked.size - 5;
    if ((region != IMAGE && region != QUEUE) || !blocks[region].begun)
        return none;
    struct block *it = &blocks[region];
    if (offset > it->total || size > it->total - offset)
        return value;
    if (offset == it->here) { /* what is here already, or leaves a gap, is not taken */
        for (size_t i = 0; i < size; i++)
            it->data[offset + i] = asked.payload[5 + i];
        it->here += size;
    }
    add(it->here, 4);
    return fine;
}

static struct refused read(void)
{
    struct refused fine = {DONE, ""}, none = {INTEGRITY, "there is no such block to read"};
    struct refused value = {VALUE, "longer than a frame"};
    uint32_t region = field(0, 1), offset = field(1, 4), length = field(5, 2);
    if (region >= REGIONS || !blocks[region].begun)
        return none;
    if (length > MAX_PAYLOAD)
        return value;
    const struct block *it = &blocks[region];
    for (uint32_t i = offset; i < it->here && i - offset < length; i++)
        out[out_size++] = it->data[i];
    return fine;
}

/* Requests */

static struct refused hello(void)
{
    struct refused fine = {DONE, ""}, version = {VERSION, "the board speaks version 1 alone; update the older one"};
    session = asked.session;
    ended = 0;
    forget();
    if (field(0, 1) > 1 || field(1, 1) < 1) {
        session = 0;
        return version;
    }
    add(1, 1);
    add(MAX_PAYLOAD, 2);
    return fine;
}

static void open_board(void)
{
    static const char digits[] = "0123456789abcdef";
    is_open = 1;
    offer(SPEC, DATA_SHEET_SIZE);
    add_text("{\"vendor\":\"labctl\",\"model\":\"reference firmware, oscillators in fixed point\",\"serial\":\"FW-");
    for (int shift = 28; shift >= 0; shift -= 4)
        add((uint64_t)digits[board_serial() >> shift & 15], 1);
    add_text("\",\"firmware\":\"1.0\",\"simulated\":true}");
}

static struct refused order(void)
{
    struct refused done, no_block = {INTEGRITY, "the block is not here, or not whole"};
    struct block *from = &blocks[asked.kind == LOAD ? IMAGE : QUEUE];
    size_t size = 0;
    if (!whole(from))
        return no_block;
    if (asked.kind == LOAD) {
        struct held held;
        done = board_load(from->data, from->total, (int)field(0, 2), field(2, 4), &held);
        if (!done.code) {
            add(held.crc, 4);
            add(held.n_bytes, 4);
            add(1, 1);
            add_double((double)held.duration_ns * 1e-3);
        }
        return done;
    }
    if (asked.kind == RUN)
        done = board_run(from->data, from->total, result, &size, between);
    else
        done = board_count(from->data, from->total, result, &size);
    out_size = 0;
    if (!done.code)
        offer(RESULT, size);
    return done;
}

static void snapshot(void)
{
    add_text("{\"oscillator_count\":");
    add_number(OSCILLATORS);
    add_text(",\"segment_count\":");
    add_number((uint64_t)board_segments());
    add_text(",\"sequencer_us\":");
    add_number(board_clock_ns() / 1000);
    add_text("}");
}

static struct refused carry_out(void)
{
    struct refused fine = {DONE, ""}, state = {STATE, "the board is not open"};
    if (!is_open && asked.kind != HELLO && asked.kind != OPEN && asked.kind != CLOSE)
        return state;
    switch (asked.kind) {
    case HELLO:
        return hello();
    case OPEN:
        open_board();
        return fine;
    case CLOSE:
        board_clear();
        forget();
        is_open = 0;
        ended = session ? session : ended;
        session = 0;
        return fine;
    case BEGIN:
        return begin();
    case WRITE:
        return write();
    case READ:
        return read();
    case RECALL: {
        int segments = board_segments();
        add((uint64_t)segments, 2);
        if (segments)
            offer(IMAGE, board_recall(image));
        else
            add(0, 8);
        return fine;
    }
    case TEMPERATURE:
        add_double(TEMPERATURE_C);
        return fine;
    case SNAPSHOT:
        snapshot();
        return fine;
    default:
        return order();
    }
}

/* Payload sizes of requests; a Write has at least its head. */
static const uint8_t SIZES[] = {
    [HELLO] = 2, [OPEN] = 0, [CLOSE] = 0, [BEGIN] = 9, [WRITE] = 5, [READ] = 7, [LOAD] = 6, [RECALL] = 0,
    [RUN] = 0, [COUNT] = 0, [TEMPERATURE] = 0, [SNAPSHOT] = 0, [STATUS] = 0,
};

static struct refused admitted(void)
{
    struct refused fine = {DONE, ""}, unknown = {PROTOCOL, "the request is not known"};
    struct refused size = {PROTOCOL, "the request has another size"}, stranger = {SESSION, "no such session"};
    struct refused version = {VERSION, "the frame is of another version than the session"};
    if (asked.kind < HELLO || asked.kind > SNAPSHOT)
        return unknown;
    if (asked.kind != HELLO) {
        int again = asked.kind == CLOSE && ended && asked.session == ended; /* its answer did not arrive */
        if (!again && (!session || asked.session != session))
            return stranger;
        if (!again && asked.version != 1)
            return version;
    }
    if (asked.size < SIZES[asked.kind] || (asked.size > SIZES[asked.kind] && asked.kind != WRITE))
        return size;
    return fine;
}

static void answer(void)
{
    if (asked.kind == STATUS) {
        send_status(&asked, 0);
        return;
    }
    struct frame request = asked;
    struct refused it = admitted();
    out_size = 0;
    int is_order = request.kind == LOAD || request.kind == RUN || request.kind == COUNT;
    if (!it.code && is_order && remembers && remembered_session == request.session &&
        remembered_sequence == request.sequence) { /* done already: its answer did not arrive */
        for (; out_size < remembered_size; out_size++)
            out[out_size] = remembered[out_size];
    } else if (!it.code) {
        it = carry_out();
        if (!it.code && is_order) {
            for (size_t i = 0; i < out_size; i++)
                remembered[i] = out[i];
            remembered_size = out_size;
            remembered_session = request.session;
            remembered_sequence = request.sequence;
            remembers = 1;
        }
    }
    if (it.code)
        send_error(it, &request);
    else
        send((uint8_t)(request.kind | ANSWER), &request);
}

int main(void)
{
    uart_start();
    for (;;) {
        while (frame_take(&asked))
            answer();
        uart_sleep();
    }
}
