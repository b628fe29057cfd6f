/* A scripted OpenAI-compatible upstream for benchmarks: one thread, epoll, loopback only. To /v1/messages it answers the
 * same in Anthropic's dialect, for gateways that translate.
 *
 *   upstream PORT CHUNKS GAP_US MAX_SECONDS      (PORT 0: any; the port is printed on stdout)
 *
 * POST  without "stream":true  -> a chat.completion of about 1 kB, keep-alive
 *       with it                -> SSE: CHUNKS chunks of about 200 bytes, each its own write, GAP_US apart (0: at
 *                                 once), then a finish chunk, a usage chunk if include_usage asks for it, [DONE].
 *                                 A prompt that contains "plan=CHUNKS:GAP_US;" overrides both numbers.
 * GET   anything               -> 200 and a small JSON: health checks and model lists of the peers
 *
 * Every chunk carries "@t" and the monotonic clock in ns, so that a reader can tell its transit time. */
#include "net.h"

#define CHUNK_MAX 512

struct conn {
    int fd, heap; /* heap: 1-based place in the timer heap, 0 = not waiting */
    struct buf in, out;
    size_t sent;
    int left;          /* chunks still to send; -1 = no stream */
    uint64_t due, gap; /* of the next chunk, ns */
    int usage, messages, close_after, want_out;
};

static int ep, default_chunks, default_gap;
static struct conn **heap;
static int heap_len, heap_cap;
static char reply[4096], message[4096], models[512];
static size_t reply_len, message_len, models_len;

/* ---- timer heap, by due time ---- */
static void heap_set(int i, struct conn *c) {
    heap[i] = c;
    c->heap = i;
}

static void heap_fix(int i) {
    struct conn *c = heap[i];
    for (; i > 1 && heap[i / 2]->due > c->due; i /= 2) heap_set(i, heap[i / 2]);
    for (int k; (k = 2 * i) <= heap_len; i = k) {
        if (k < heap_len && heap[k + 1]->due < heap[k]->due) k++;
        if (heap[k]->due >= c->due) break;
        heap_set(i, heap[k]);
    }
    heap_set(i, c);
}

static void heap_push(struct conn *c) {
    if (++heap_len >= heap_cap) {
        heap_cap = heap_cap ? heap_cap * 2 : 1024;
        heap = realloc(heap, (size_t)heap_cap * sizeof *heap);
        if (!heap) die("realloc");
    }
    heap_set(heap_len, c);
    heap_fix(heap_len);
}

static void heap_remove(struct conn *c) {
    int i = c->heap;
    struct conn *last = heap[heap_len--];
    c->heap = 0;
    if (last == c) return;
    heap_set(i, last);
    heap_fix(i);
}

/* ---- connections ---- */
static void conn_close(struct conn *c) {
    if (c->heap) heap_remove(c);
    close(c->fd);
    c->fd = -1;
}

/* Free a closed connection. Called last in an event: there is one event per descriptor in a batch, and timers run
 * after the batch, so nothing names it any more. */
static void reap(struct conn *c) {
    if (c->fd >= 0) return;
    free(c->in.p);
    free(c->out.p);
    free(c);
}

static void watch(struct conn *c, int out) {
    struct epoll_event ev = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    if (c->want_out == out) return;
    c->want_out = out;
    epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
}

/* Send what is waiting in `out`. True when all of it is gone. */
static int flush(struct conn *c) {
    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.p + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) watch(c, 1);
            else conn_close(c);
            return 0;
        }
        c->sent += (size_t)n;
    }
    c->out.len = c->sent = 0;
    watch(c, 0);
    return 1;
}

/* One write: straight to the socket if nothing waits before it. */
static int put(struct conn *c, const char *p, size_t n) {
    if (!c->out.len) {
        ssize_t got = send(c->fd, p, n, MSG_NOSIGNAL);
        if (got == (ssize_t)n) return 1;
        if (got < 0 && errno != EAGAIN) {
            conn_close(c);
            return 0;
        }
        p += got > 0 ? got : 0;
        n -= got > 0 ? (size_t)got : 0;
    }
    buf_add(&c->out, p, n);
    return flush(c);
}

/* ---- answers ---- */
static void build_replies(void) {
    char body[2048], text[700];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    for (size_t i = 5; i < sizeof text - 1; i += 6) text[i] = ' ';
    int n = snprintf(body, sizeof body,
        "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench\","
        "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},\"logprobs\":null,"
        "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":42,\"completion_tokens\":120,"
        "\"total_tokens\":162}}", text);
    const char *head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s";
    reply_len = (size_t)snprintf(reply, sizeof reply, head, n, body);
    n = snprintf(body, sizeof body,
        "{\"id\":\"msg_bench\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"bench\",\"content\":[{\"type\":\"text\","
        "\"text\":\"%s\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":42,"
        "\"output_tokens\":120}}", text);
    message_len = (size_t)snprintf(message, sizeof message, head, n, body);
    const char *list = "{\"object\":\"list\",\"status\":\"ok\",\"model_path\":\"bench\",\"data\":[{\"id\":\"bench\","
                       "\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"bench\"}]}";
    models_len = (size_t)snprintf(models, sizeof models, head, (int)strlen(list), list);
}

#define CHUNK_HEAD "data: {\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion.chunk\",\"created\":1700000000," \
                   "\"model\":\"bench\",\"choices\":["

static size_t frame(char *out, const char *data, int n) {
    return (size_t)sprintf(out, "%x\r\n%.*s\r\n", (unsigned)n, n, data);
}

#define EVENT(name, rest) "event: " name "\ndata: {\"type\":\"" name "\"" rest "}\n\n"

static const char *const message_start = EVENT("message_start", ",\"message\":{\"id\":\"msg_bench\",\"type\":\"message\","
    "\"role\":\"assistant\",\"model\":\"bench\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,"
    "\"usage\":{\"input_tokens\":42,\"output_tokens\":1}}") EVENT("content_block_start", ",\"index\":0,"
    "\"content_block\":{\"type\":\"text\",\"text\":\"\"}");
static const char *const message_end = EVENT("content_block_stop", ",\"index\":0") EVENT("message_delta",
    ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":120}")
    EVENT("message_stop", "");

/* The last write of a stream: finish chunk, usage if wanted, [DONE] and the end of the body. */
static void stream_end(struct conn *c) {
    char data[CHUNK_MAX], out[4 * CHUNK_MAX];
    size_t n = 0;
    if (c->messages) {
        n += frame(out, message_end, (int)strlen(message_end));
        n += (size_t)sprintf(out + n, "0\r\n\r\n");
        c->left = -1;
        put(c, out, n);
        return;
    }
    int k = snprintf(data, sizeof data,
        CHUNK_HEAD "{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n");
    n += frame(out + n, data, k);
    if (c->usage) {
        k = snprintf(data, sizeof data, CHUNK_HEAD "],\"usage\":{\"prompt_tokens\":42,\"completion_tokens\":120,"
                                                   "\"total_tokens\":162}}\n\n");
        n += frame(out + n, data, k);
    }
    n += frame(out + n, "data: [DONE]\n\n", 14);
    n += (size_t)sprintf(out + n, "0\r\n\r\n");
    c->left = -1;
    put(c, out, n);
}

/* Send the chunks that are due; all of them when the stream is not paced. */
static void stream_step(struct conn *c) {
    char data[CHUNK_MAX], out[CHUNK_MAX + 32];
    while (c->fd >= 0 && c->left > 0 && !c->out.len) {
        int k = c->messages ? snprintf(data, sizeof data,
            EVENT("content_block_delta", ",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"" MARK
                  "%019llu and a word\"}"), (unsigned long long)now_ns()) : snprintf(data, sizeof data,
            CHUNK_HEAD "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"" MARK
                       "%019llu and a word\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n",
            (unsigned long long)now_ns());
        c->left--;
        put(c, out, frame(out, data, k));
        if (c->gap) break;
    }
    if (c->fd < 0) return;
    if (c->left == 0 && !c->out.len && !c->gap) stream_end(c);
    else if (c->gap && c->left >= 0) {
        c->due += c->gap;
        heap_push(c);
    }
}

static void timer_fired(struct conn *c) {
    heap_remove(c);
    if (c->left == 0) stream_end(c);
    else stream_step(c);
    reap(c);
}

/* Is name present in the ends of the body, as "name":true or "name": true? */
static int flag(const char *body, size_t n, const char *name) {
    const char *hit = memmem(body, n, name, strlen(name));
    if (!hit) return 0;
    for (hit += strlen(name); hit < body + n && (*hit == '"' || *hit == ' ' || *hit == ':'); hit++) {}
    return hit + 4 <= body + n && !memcmp(hit, "true", 4);
}

static int flag_at_ends(const char *body, size_t n, const char *name) {
    const size_t edge = 2048; /* the padding of a large prompt is in the middle */
    if (n <= 2 * edge) return flag(body, n, name);
    return flag(body, edge, name) || flag(body + n - edge, edge, name);
}

static void answer(struct conn *c, const char *body, size_t n, int get) {
    if (get) {
        put(c, models, models_len);
        return;
    }
    if (!flag_at_ends(body, n, "\"stream\"")) {
        put(c, c->messages ? message : reply, c->messages ? message_len : reply_len);
        return;
    }
    int chunks = default_chunks, gap = default_gap;
    const char *plan = memmem(body, n, "plan=", 5);
    if (plan) sscanf(plan, "plan=%d:%d;", &chunks, &gap);
    c->left = chunks;
    c->gap = (uint64_t)gap * 1000;
    c->usage = flag_at_ends(body, n, "\"include_usage\"");
    c->due = now_ns();
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    if (!put(c, head, sizeof head - 1)) return;
    char start[2 * CHUNK_MAX];
    if (c->messages && !put(c, start, frame(start, message_start, (int)strlen(message_start)))) return;
    stream_step(c);
}

/* ---- requests ---- */
/* Walk a chunked body and close it up in place. Bytes consumed, 0 = not complete yet. */
static size_t dechunk(char *p, size_t n, size_t *body_len, int write) {
    size_t at = 0, out = 0;
    for (;;) {
        char *eol = memchr(p + at, '\n', n - at);
        if (!eol) return 0;
        size_t size = strtoul(p + at, NULL, 16), start = (size_t)(eol - p) + 1;
        if (start + size + 2 > n) return 0;
        if (write) memmove(p + out, p + start, size);
        out += size;
        at = start + size + 2;
        if (!size) break;
    }
    *body_len = out;
    return at;
}

/* Answer one complete request at the front of `in`. False when there is none. */
static int request(struct conn *c) {
    char *p = c->in.p, *end = c->in.len ? memmem(p, c->in.len, "\r\n\r\n", 4) : NULL;
    if (!end) return 0;
    size_t head = (size_t)(end - p) + 4, n = 0, used;
    const char *length = header(p, head, "content-length"), *coding = header(p, head, "transfer-encoding");
    if (coding && !strncasecmp(coding, "chunked", 7)) {
        used = dechunk(p + head, c->in.len - head, &n, 0);
        if (!used) return 0;
        dechunk(p + head, used, &n, 1);
    } else {
        used = n = length ? strtoul(length, NULL, 10) : 0;
        if (c->in.len < head + n) {
            buf_reserve(&c->in, head + n - c->in.len);
            return 0;
        }
    }
    const char *keep = header(p, head, "connection");
    c->close_after = keep && !strncasecmp(keep, "close", 5);
    c->messages = memmem(p, (size_t)((char *)memchr(p, '\n', head) - p), " /v1/messages ", 14) != NULL;
    answer(c, p + head, n, !memcmp(p, "GET", 3));
    buf_drop(&c->in, head + used);
    return c->fd >= 0;
}

static void readable(struct conn *c) {
    buf_reserve(&c->in, 8192);
    ssize_t n = recv(c->fd, c->in.p + c->in.len, c->in.cap - c->in.len, 0);
    if (n <= 0) {
        if (n == 0 || errno != EAGAIN) conn_close(c);
        return;
    }
    c->in.len += (size_t)n;
}

static void handle(struct conn *c, uint32_t events) {
    if (events & EPOLLOUT && flush(c) && !c->gap && c->left >= 0) stream_step(c);
    if (c->fd >= 0 && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);
    while (c->fd >= 0 && c->left < 0 && request(c)) {}
    if (c->fd >= 0 && c->close_after && c->left < 0 && !c->out.len) conn_close(c);
    reap(c);
}

static void accept_all(int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->left = -1;
        no_delay(fd);
        struct epoll_event ev = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
    }
}

static int listen_on(int port) {
    struct sockaddr_in a = loopback(port);
    socklen_t size = sizeof a;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&a, size) || listen(fd, 4096)) die("listen");
    getsockname(fd, (struct sockaddr *)&a, &size);
    printf("%d\n", ntohs(a.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 5) return fprintf(stderr, "usage: upstream PORT CHUNKS GAP_US MAX_SECONDS\n"), 2;
    default_chunks = atoi(argv[2]);
    default_gap = atoi(argv[3]);
    uint64_t end = now_ns() + (uint64_t)atoi(argv[4]) * NS;
    exact_timers();
    build_replies();
    ep = epoll_create1(0);
    int listener = listen_on(atoi(argv[1]));
    struct epoll_event ev[256], self = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &self);
    for (uint64_t now = now_ns(); now < end; now = now_ns()) {
        uint64_t next = heap_len && heap[1]->due < end ? heap[1]->due : end;
        int n = epoll_wait_ns(ep, ev, 256, next > now ? next - now : 0);
        for (int i = 0; i < n; i++) {
            if (ev[i].data.ptr) handle(ev[i].data.ptr, ev[i].events);
            else accept_all(listener);
        }
        now = now_ns();
        for (int k = 0; k < 256 && heap_len && heap[1]->due <= now; k++) timer_fired(heap[1]);
    }
    return 0;
}
