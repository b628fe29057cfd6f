/* A load generator for OpenAI-compatible gateways: one thread, epoll, loopback only, prints one JSON object.
 *
 *   loadgen --port P [--mode closed|rate|once] [--conns C] [--rate R] [--seconds S] [--ramp S] [--bytes N]
 *           [--stream CHUNKS:GAP_US] [--abort PERCENT] [--key K] [--model M] [--path /v1/chat/completions]
 *           [--headers "name: value;name: value"]
 *
 * closed  each of C connections sends its next request when the last one is answered, for S seconds
 * rate    R requests a second on at most C connections; a latency counts from when the request was due, so a
 *         stalled server is charged for the requests it held up (no coordinated omission)
 * once    C requests on C connections, started evenly over the ramp
 *
 * Every answer is checked: status 200, a JSON with "choices" and "usage", or a stream with all of its chunks and
 * [DONE]. Requests that were started are awaited, at most GRACE seconds. */
#include "net.h"
#include "samples.h"
#include <getopt.h>

#define GRACE 10
#define STALL_US 250000.0
#define KEEP 4096 /* bytes of a body kept for checking; also the longest SSE line */

enum state { IDLE, CONNECTING, HEAD, BODY };
enum framing { BY_LENGTH, CHUNKED, BY_CLOSE };
enum fault { F_CONNECT, F_STATUS, F_BODY, F_CLOSED, F_TIMEOUT, FAULTS };
static const char *fault_names[FAULTS] = {"connect", "status", "body", "closed", "timeout"};

struct conn {
    int fd, want_out, status, close_after, chunks, done, leaves; /* leaves: goes away in the middle of its stream */
    enum state state;
    enum framing framing;
    size_t sent, left; /* of the request; of the body or of its current chunk */
    int size_line;     /* inside a chunk-size line; left then collects the number */
    struct buf in;     /* head, then the kept body or the unfinished SSE line */
    uint64_t due;
};

static int port, conns = 32, rate = 200, bytes = 400, stream_chunks, stream_gap, abort_percent, ep;
static double seconds = 5, ramp = 1;
static const char *mode = "closed", *key = "bench", *model = "bench", *path = "/v1/chat/completions", *headers = "";
static struct buf req;
static struct conn *all, **idle;
static int idle_n, in_flight;
static uint64_t t0, t_stop, started, finished, aborted, chunks_seen, stalls, reconnects, faults[FAULTS];
static struct samples latency, ttft, transit;
static char first_fault[256];

/* ---- the request ---- */
static void build_request(void) {
    struct buf body = {0};
    char text[1024];
    int n = snprintf(text, sizeof text, "{\"model\":\"%s\",\"messages\":[{\"role\":\"user\",\"content\":\"plan=%d:%d; ",
                     model, stream_chunks, stream_gap);
    buf_add(&body, text, (size_t)n);
    const char *tail = "\"}],\"max_tokens\":128,\"temperature\":0.5";
    const char *more = stream_chunks ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}" : "}";
    size_t rest = strlen(tail) + strlen(more);
    while (body.len + rest < (size_t)bytes) buf_add(&body, body.len % 6 ? "w" : " ", 1);
    buf_add(&body, tail, strlen(tail));
    buf_add(&body, more, strlen(more));
    n = snprintf(text, sizeof text, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %s\r\n"
                 "Content-Type: application/json\r\nAccept: */*\r\n", path, port, key);
    buf_add(&req, text, (size_t)n);
    for (const char *p = headers, *e; *p; p = *e ? e + 1 : e) {
        e = strchrnul(p, ';');
        buf_add(&req, p, (size_t)(e - p));
        buf_add(&req, "\r\n", 2);
    }
    n = snprintf(text, sizeof text, "Content-Length: %zu\r\n\r\n", body.len);
    buf_add(&req, text, (size_t)n);
    buf_add(&req, body.p, body.len);
    free(body.p);
}

/* ---- connections ---- */
static void conn_drop(struct conn *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static void release(struct conn *c) {
    c->state = IDLE;
    c->in.len = 0;
    in_flight--;
    idle[idle_n++] = c;
}

static void fault(struct conn *c, enum fault kind, const char *detail, size_t n) {
    if (!first_fault[0]) {
        snprintf(first_fault, sizeof first_fault, "%s: %d %.*s", fault_names[kind], c->status,
                 (int)(n > 200 ? 200 : n), detail);
    }
    faults[kind]++;
    conn_drop(c);
    release(c);
}

static void watch(struct conn *c, int out, int op) {
    struct epoll_event ev = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};
    if (op == EPOLL_CTL_MOD && c->want_out == out) return;
    c->want_out = out;
    epoll_ctl(ep, op, c->fd, &ev);
}

static void send_more(struct conn *c) {
    while (c->sent < req.len) {
        ssize_t n = send(c->fd, req.p + c->sent, req.len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) return fault(c, F_CLOSED, "while sending", 13);
        c->sent += (size_t)n;
    }
    watch(c, c->sent < req.len, EPOLL_CTL_MOD);
}

static void start(struct conn *c, uint64_t due) {
    c->due = due;
    c->sent = c->left = 0;
    c->status = c->close_after = c->chunks = c->done = 0;
    c->state = HEAD;
    c->leaves = stream_chunks && (started * 37) % 100 < (unsigned)abort_percent;
    in_flight++;
    started++;
    if (c->fd >= 0) return send_more(c);
    struct sockaddr_in a = loopback(port);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    no_delay(c->fd);
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a) && errno != EINPROGRESS) {
        return fault(c, F_CONNECT, strerror(errno), 60);
    }
    c->state = CONNECTING;
    watch(c, 1, EPOLL_CTL_ADD);
}

/* ---- the answer ---- */
static void complete(struct conn *c, uint64_t now) {
    int good = c->done && c->chunks == stream_chunks;
    if (!stream_chunks)
        good = memmem(c->in.p, c->in.len, "\"choices\"", 9) && memmem(c->in.p, c->in.len, "\"usage\"", 7);
    char why[64];
    if (c->status != 200) return fault(c, F_STATUS, c->in.p, c->in.len);
    if (!good && stream_chunks) {
        int n = snprintf(why, sizeof why, "%d of %d chunks, done=%d", c->chunks, stream_chunks, c->done);
        return fault(c, F_BODY, why, (size_t)n);
    }
    if (!good || c->sent < req.len) return fault(c, F_BODY, c->in.p, c->in.len);
    sample(&latency, (double)(now - c->due) / 1e3);
    finished++;
    if (c->close_after || c->framing == BY_CLOSE) {
        conn_drop(c);
        reconnects++;
    }
    release(c);
}

static void sse_line(struct conn *c, const char *p, size_t n, uint64_t now) {
    if (n < 6 || memcmp(p, "data:", 5)) return;
    const char *mark = memmem(p, n, MARK, 2);
    if (!mark) {
        if (memmem(p, n, "[DONE]", 6)) c->done = 1;
        return;
    }
    double us = ((double)(int64_t)(now - strtoull(mark + 2, NULL, 10))) / 1e3;
    sample(&transit, us);
    if (us > STALL_US) stalls++;
    chunks_seen++;
    if (!c->chunks++) sample(&ttft, (double)(now - c->due) / 1e3);
}

/* Take decoded body bytes: keep the beginning of a JSON, cut a stream into lines. */
static void body_bytes(struct conn *c, const char *p, size_t n, uint64_t now) {
    if (!stream_chunks || c->status != 200) {
        size_t room = KEEP - c->in.len;
        buf_add(&c->in, p, n < room ? n : room);
        return;
    }
    for (const char *eol; n && (eol = memchr(p, '\n', n)); n -= (size_t)(eol + 1 - p), p = eol + 1) {
        if (!c->in.len) {
            sse_line(c, p, (size_t)(eol - p), now);
            continue;
        }
        buf_add(&c->in, p, (size_t)(eol - p));
        sse_line(c, c->in.p, c->in.len, now);
        c->in.len = 0;
    }
    if (n && c->in.len + n <= KEEP) buf_add(&c->in, p, n);
}

static int hex(char ch) {
    if (ch >= '0' && ch <= '9') return ch - '0';
    ch |= 32;
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* Decode chunked framing. True at the end of the body. */
static int dechunk(struct conn *c, const char *p, size_t n, uint64_t now) {
    for (const char *end = p + n; p < end;) {
        if (c->size_line) {
            int digit = hex(*p);
            if (digit >= 0) c->left = c->left * 16 + (size_t)digit;
            else if (*p == '\n') {
                if (!c->left) return 1; /* the trailing CRLF is dropped with the connection's next read */
                c->size_line = 0;
                c->left += 2; /* the CRLF after the data */
            }
            p++;
            continue;
        }
        size_t take = (size_t)(end - p) < c->left ? (size_t)(end - p) : c->left;
        size_t data = c->left > 2 ? (take < c->left - 2 ? take : c->left - 2) : 0;
        body_bytes(c, p, data, now);
        c->left -= take;
        p += take;
        if (!c->left) c->size_line = 1;
    }
    return 0;
}

static void body(struct conn *c, const char *p, size_t n, uint64_t now) {
    int end = 0;
    if (c->framing == CHUNKED) {
        end = dechunk(c, p, n, now);
    } else {
        if (c->framing == BY_LENGTH && n > c->left) n = c->left;
        body_bytes(c, p, n, now);
        c->left -= c->framing == BY_LENGTH ? n : 0;
        end = c->framing == BY_LENGTH && !c->left;
    }
    if (end) return complete(c, now);
    if (c->leaves && c->chunks * 2 > stream_chunks) {
        aborted++;
        conn_drop(c);
        release(c);
    }
}

/* Read the head out of `in`, then hand what follows to body(). */
static void head(struct conn *c, uint64_t now) {
    char *p = c->in.p, *end;
    while (c->in.len >= 2 && p[0] == '\r' && p[1] == '\n') buf_drop(&c->in, 2); /* left over of a chunked body */
    end = c->in.len ? memmem(p, c->in.len, "\r\n\r\n", 4) : NULL;
    if (!end) return;
    size_t size = (size_t)(end - p) + 4, rest = c->in.len - size;
    c->status = size > 12 ? atoi(p + 9) : 0;
    if (c->status == 100) {
        buf_drop(&c->in, size);
        return head(c, now);
    }
    const char *length = header(p, size, "content-length"), *coding = header(p, size, "transfer-encoding");
    const char *keep = header(p, size, "connection");
    c->close_after = (keep && !strncasecmp(keep, "close", 5)) || !memcmp(p, "HTTP/1.0", 8);
    c->framing = coding && !strncasecmp(coding, "chunked", 7) ? CHUNKED : length ? BY_LENGTH : BY_CLOSE;
    c->left = c->framing == BY_LENGTH ? strtoul(length, NULL, 10) : 0;
    c->size_line = 1;
    c->state = BODY;
    c->in.len = 0;
    char spill[65536]; /* `in` is reused for the body: the bytes after the head move away first */
    if (rest > sizeof spill) return fault(c, F_BODY, "head too large", 14);
    memcpy(spill, p + size, rest);
    if (rest || (c->framing == BY_LENGTH && !c->left)) body(c, spill, rest, now);
}

static void readable(struct conn *c) {
    static char chunk[65536];
    ssize_t n = recv(c->fd, chunk, sizeof chunk, 0);
    uint64_t now = now_ns();
    if (n < 0 && errno == EAGAIN) return;
    if (c->state == IDLE) {
        if (n <= 0) {
            conn_drop(c); /* closed between two requests */
            reconnects++;
        }
        return; /* else the CRLF after the last chunk */
    }
    if (n <= 0) {
        if (c->state == BODY && c->framing == BY_CLOSE && n == 0) return complete(c, now);
        return fault(c, c->state == CONNECTING ? F_CONNECT : F_CLOSED, c->in.p ? c->in.p : "", c->in.len);
    }
    if (c->state == BODY) return body(c, chunk, (size_t)n, now);
    buf_add(&c->in, chunk, (size_t)n);
    head(c, now);
}

static void handle(struct conn *c, uint32_t events) {
    if (c->state == CONNECTING && events & EPOLLOUT && !(events & (EPOLLERR | EPOLLHUP))) c->state = HEAD;
    if (events & EPOLLOUT && c->state != CONNECTING && c->state != IDLE) send_more(c);
    if (c->fd >= 0 && events & (EPOLLIN | EPOLLERR | EPOLLHUP)) readable(c);
}

/* ---- arrivals ---- */
/* When the next request is due; UINT64_MAX = no more. */
static uint64_t next_due(uint64_t now) {
    if (mode[0] == 'c') return now < t_stop ? now : UINT64_MAX;
    uint64_t step = mode[0] == 'r' ? NS / (uint64_t)rate : (uint64_t)(ramp * 1e9) / (uint64_t)conns;
    uint64_t total = mode[0] == 'r' ? (uint64_t)(seconds * rate) : (uint64_t)conns;
    return started < total ? t0 + started * step : UINT64_MAX;
}

static void run(void) {
    struct epoll_event ev[256];
    uint64_t hard = t_stop + GRACE * NS, now = now_ns(), due;
    for (; now < hard; now = now_ns()) {
        while ((due = next_due(now)) <= now && idle_n) start(idle[--idle_n], due);
        if (due == UINT64_MAX && !in_flight) return;
        uint64_t until = due != UINT64_MAX && idle_n && due < hard ? due : hard;
        int n = epoll_wait_ns(ep, ev, 256, until > now ? until - now : 0);
        for (int i = 0; i < n; i++) handle(ev[i].data.ptr, ev[i].events);
    }
    for (int i = 0; i < conns; i++) {
        if (all[i].state != IDLE) fault(&all[i], F_TIMEOUT, "no end within the grace time", 28);
    }
}

/* ---- the result ---- */
static void print_result(double took) {
    struct rusage u;
    uint64_t errors = 0;
    getrusage(RUSAGE_SELF, &u);
    double cpu = (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6;
    cpu += (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
    printf("{\"requests\":%llu,\"seconds\":%.4f,\"rps\":%.1f,\"error_kinds\":{", (unsigned long long)finished, took,
           (double)finished / took);
    for (int i = 0; i < FAULTS; i++) {
        errors += faults[i];
        printf("%s\"%s\":%llu", i ? "," : "", fault_names[i], (unsigned long long)faults[i]);
    }
    for (char *p = first_fault; *p; p++) {
        if (*p < 32 || *p > 126 || *p == '"' || *p == '\\') *p = *p == '"' ? '\'' : ' ';
    }
    printf("},\"errors\":%llu,\"first_error\":\"%s\",\"aborted\":%llu,\"chunks\":%llu,\"stalls\":%llu,"
           "\"reconnects\":%llu,\"cpu_us\":%.0f", (unsigned long long)errors, first_fault, (unsigned long long)aborted,
           (unsigned long long)chunks_seen, (unsigned long long)stalls, (unsigned long long)reconnects, cpu);
    print_samples("latency_us", &latency);
    print_samples("ttft_us", &ttft);
    print_samples("transit_us", &transit);
    printf("}\n");
}

static void options(int argc, char **argv) {
    static const struct option names[] = {
        {"port", 1, 0, 'p'}, {"mode", 1, 0, 'm'}, {"conns", 1, 0, 'c'}, {"rate", 1, 0, 'r'}, {"seconds", 1, 0, 's'},
        {"ramp", 1, 0, 'a'}, {"bytes", 1, 0, 'b'}, {"stream", 1, 0, 't'}, {"abort", 1, 0, 'x'}, {"key", 1, 0, 'k'},
        {"model", 1, 0, 'o'}, {"path", 1, 0, 'u'}, {"headers", 1, 0, 'h'}, {0, 0, 0, 0}};
    for (int ch; (ch = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (ch == 'p') port = atoi(optarg);
        else if (ch == 'm') mode = optarg;
        else if (ch == 'c') conns = atoi(optarg);
        else if (ch == 'r') rate = atoi(optarg);
        else if (ch == 's') seconds = atof(optarg);
        else if (ch == 'a') ramp = atof(optarg);
        else if (ch == 'b') bytes = atoi(optarg);
        else if (ch == 't') sscanf(optarg, "%d:%d", &stream_chunks, &stream_gap);
        else if (ch == 'x') abort_percent = atoi(optarg);
        else if (ch == 'k') key = optarg;
        else if (ch == 'o') model = optarg;
        else if (ch == 'u') path = optarg;
        else if (ch == 'h') headers = optarg;
        else exit(2);
    }
    if (port <= 0 || conns <= 0 || rate <= 0 || seconds <= 0 || seconds > 600) {
        fprintf(stderr, "loadgen: --port, --conns, --rate and --seconds must be positive, at most 600 s\n");
        exit(2);
    }
}

int main(int argc, char **argv) {
    options(argc, argv);
    exact_timers();
    build_request();
    ep = epoll_create1(0);
    all = calloc((size_t)conns, sizeof *all);
    idle = calloc((size_t)conns, sizeof *idle);
    for (int i = conns - 1; i >= 0; i--) {
        all[i].fd = -1;
        idle[idle_n++] = &all[i];
    }
    t0 = now_ns();
    t_stop = t0 + (uint64_t)((mode[0] == 'o' ? ramp + seconds : seconds) * 1e9);
    run();
    print_result((double)(now_ns() - t0) / 1e9);
    return 0;
}
