/* Sample lists of loadgen.c, in µs, and their percentiles as JSON. */
#ifndef BENCH_SAMPLES_H
#define BENCH_SAMPLES_H
#include "net.h"

struct samples {
    float *v;
    size_t n, cap;
};

static inline void sample(struct samples *s, double us) {
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 65536;
        s->v = realloc(s->v, s->cap * sizeof *s->v);
        if (!s->v) die("realloc");
    }
    s->v[s->n++] = (float)us;
}

static inline int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static inline void print_samples(const char *name, struct samples *s) {
    qsort(s->v, s->n, sizeof *s->v, by_value);
    printf(",\"%s\":", name);
    if (!s->n) {
        printf("null");
        return;
    }
    printf("{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"max\":%.1f}", s->v[s->n / 2], s->v[s->n * 9 / 10],
           s->v[s->n * 99 / 100], s->v[s->n - 1]);
}
#endif
