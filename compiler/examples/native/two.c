// Two compiled models in one program: each continues the same token ids.
//
//   cc -std=c11 -O2 -DFIRST=big -DSECOND=small two.c big.o small.o -o two
//   ./two IDS [TOKENS]            (IDS with commas between them)
//
// Models of different prefixes share nothing but the types of their headers: what a program needs of a model fits a struct.

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define QUOTE_(text) #text
#define QUOTE(text) QUOTE_(text)

#include QUOTE(FIRST.h)
#include QUOTE(SECOND.h)

struct model {
    const char *name;
    const tern_info *info;
    const uint8_t *weights;
    tern_step step;
    tern_state_bytes state_bytes;
    tern_state_init state_init;
};

#define MODEL(prefix)                                                                                                 \
    {QUOTE(prefix),      &JOIN(prefix, info),       JOIN(prefix, weights),                                            \
     JOIN(prefix, step), JOIN(prefix, state_bytes), JOIN(prefix, state_init)}

static const struct model models[] = {MODEL(FIRST), MODEL(SECOND)};

// One thread has nobody to meet.
static void meet(void *nobody) { (void)nobody; }

static void must(int holds, const struct model *m, const char *what) {
    if (holds) return;
    fprintf(stderr, "two: %s: %s\n", m->name, what);
    exit(1);
}

// A zeroed state, and where its memory starts.
static uint8_t *new_state(const struct model *m, uint8_t **memory) {
    uint64_t bytes = m->state_bytes(m->info->max_context, 1, TERN_KV_F16);
    *memory = calloc(1, bytes + TERN_ALIGN_BYTES);
    must(bytes > 0 && *memory, m, "no memory");
    uint8_t *state = *memory + (TERN_ALIGN_BYTES - (uintptr_t)*memory % TERN_ALIGN_BYTES) % TERN_ALIGN_BYTES;
    // 0: the CPU is asked, or has the least that the code needs.
    must(m->state_init(state, m->info->max_context, 1, TERN_KV_F16, 0) == TERN_STATUS_OK, m, "no state");
    return state;
}

// The likeliest token behind n ids at pos.
static uint32_t next(const struct model *m, uint8_t *state, const uint32_t *ids, uint32_t n, uint32_t pos) {
    float largest[2]; // its id, then its logit
    uint32_t id, want = TERN_WANT_TOP_K | 1 << 8;
    uint32_t status = m->step(m->weights, state, ids, n, pos, 0, want, largest, 0, 1, meet, NULL);
    must(status == TERN_STATUS_OK, m, "a step was refused");
    memcpy(&id, largest, sizeof id);
    return id;
}

int main(int argc, char **argv) {
    if (argc < 2) return fprintf(stderr, "two: give token ids, with commas between them\n"), 1;
    uint32_t tokens = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 16;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        const struct model *m = &models[i];
        must(m->info->abi_version == TERN_ABI_VERSION, m, "the model is of another ABI than its header");
        uint8_t *memory, *state = new_state(m, &memory);
        uint32_t id = TERN_NO_TOKEN, pos = 0;
        for (char *at = argv[1]; *at; pos++) {
            uint32_t given = (uint32_t)strtoul(at, &at, 10);
            at += *at == ',';
            id = next(m, state, &given, 1, pos);
        }
        printf("%s: ", m->name);
        for (uint32_t said = 0; said < tokens && pos < m->info->max_context; said++, pos++) {
            printf(said > 0 ? ",%" PRIu32 : "%" PRIu32, id);
            id = next(m, state, &id, 1, pos);
        }
        putchar('\n');
        free(memory);
    }
    return 0;
}
