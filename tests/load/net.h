/* Shared by upstream.c and loadgen.c: clocks, sockets and growable buffers. */
#ifndef BENCH_NET_H
#define BENCH_NET_H
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000ull
#define MARK "@t" /* in front of the 19 digits of a chunk's time stamp */

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS + (uint64_t)t.tv_nsec;
}

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

/* A growable byte buffer. */
struct buf {
    char *p;
    size_t len, cap;
};

static inline void buf_reserve(struct buf *b, size_t more) {
    if (b->len + more <= b->cap) return;
    size_t cap = b->cap ? b->cap : 4096;
    while (cap < b->len + more) cap *= 2;
    b->p = realloc(b->p, cap);
    if (!b->p) die("realloc");
    b->cap = cap;
}

static inline void buf_add(struct buf *b, const char *p, size_t n) {
    buf_reserve(b, n);
    memcpy(b->p + b->len, p, n);
    b->len += n;
}

/* Drop the first n bytes. */
static inline void buf_drop(struct buf *b, size_t n) {
    b->len -= n;
    if (b->len) memmove(b->p, b->p + n, b->len);
}

static inline void no_delay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static inline struct sockaddr_in loopback(int port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK); /* never anything else */
    return a;
}

/* epoll_wait with a time-out in nanoseconds; UINT64_MAX waits for ever. */
static inline int epoll_wait_ns(int ep, struct epoll_event *ev, int n, uint64_t wait) {
    struct timespec t = {(time_t)(wait / NS), (long)(wait % NS)};
    int got = epoll_pwait2(ep, ev, n, wait == UINT64_MAX ? NULL : &t, NULL);
    if (got < 0 && errno != EINTR) die("epoll_pwait2");
    return got < 0 ? 0 : got;
}

/* The value of a header in head[0..len), found without regard to case; NULL if absent. */
static inline const char *header(const char *head, size_t len, const char *name) {
    size_t n = strlen(name);
    const char *end = head + len, *line = head;
    while (line && (line = memchr(line, '\n', (size_t)(end - line)))) {
        line++;
        if (line + n < end && line[n] == ':' && !strncasecmp(line, name, n)) {
            line += n + 1;
            while (line < end && *line == ' ') line++;
            return line;
        }
    }
    return NULL;
}

static inline void exact_timers(void) {
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    signal(SIGPIPE, SIG_IGN);
}
#endif
